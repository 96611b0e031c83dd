// From logits to a token: `distribution` and `draw` of sampling.py in one place, in float64 as there.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "decode.h"
#include "vector.h"

namespace ISA {

constexpr int WIDE = LANES / 2;
typedef double Wide __attribute__((vector_size(4 * LANES)));
typedef int64_t WideBits __attribute__((vector_size(4 * LANES)));
typedef double WideUnaligned __attribute__((vector_size(4 * LANES), aligned(8), may_alias));
constexpr double NOTHING = -std::numeric_limits<double>::infinity();

// e^x for x <= 0, within 1e-15; 0 below −708, where doubles end. e^x = 2^n e^r, |r| <= ln2 / 2, Taylor's series to r^13.
inline Wide exponential(Wide x) {
  const Wide lowest = Wide{} - 708.0, clipped = x < lowest ? lowest : x;
  const double rounder = 6755399441055744.0;  // 1.5 · 2^52: adding it leaves the nearest integer in the low bits
  const Wide shifted = clipped * 1.4426950408889634 + rounder, n = shifted - rounder;
  const Wide r = (clipped - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  Wide p = Wide{} + 1.0 / 6227020800;
  for (const double inverse : {1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040,
                               1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1.0, 1.0})
    p = p * r + inverse;
  const Wide value = (Wide)((WideBits)p + ((WideBits)shifted << 52));
  return x < lowest ? Wide{} : value + x * 0.0;  // x · 0: a NaN's bits don't survive the line above
}

// values[v] = e^(values[v] − highest), and their sum; V is a multiple of WIDE.
inline double exponentials(double* values, int64_t V, double highest) {
  Wide sums = {};
  for (int64_t v = 0; v < V; v += WIDE) {
    WideUnaligned* at = reinterpret_cast<WideUnaligned*>(values + v);
    const Wide value = exponential(*at - highest);
    *at = value;
    sums += value;
  }
  double sum = 0;
  for (int lane = 0; lane < WIDE; ++lane) sum += sums[lane];
  return sum;
}

// The model's own surprise at `token`, at temperature 1: −log softmax.
inline double surprise(const float* logits, int64_t V, int64_t token, double* scratch) {
  float highest = logits[0];
  for (int64_t v = 0; v < V; ++v) highest = logits[v] > highest ? logits[v] : highest, scratch[v] = logits[v];
  return std::log(exponentials(scratch, V, highest)) + highest - logits[token];
}

// Of the weights (whose sum is given) only the heaviest stay that together hold `top_p`; returns their sum.
inline double nucleus(double* weights, int64_t V, double sum, double top_p, int32_t* order) {
  // tokens below this hold less than 1 − top_p together: none of them can be in it, so they needn't be sorted
  const double floor = sum * (1 - top_p) / V * (1 - 1e-9);
  int64_t count = 0;
  for (int64_t v = 0; v < V; ++v)
    if (weights[v] > 0 && weights[v] >= floor) order[count++] = v;
  std::sort(order, order + count,
            [&](int32_t a, int32_t b) { return weights[a] > weights[b] || (weights[a] == weights[b] && a < b); });
  double before = 0;
  int64_t kept = 0;
  while (kept < count && (kept == 0 || before < top_p)) before += weights[order[kept++]] / sum;
  double* const last = weights + V;
  const double lightest = weights[order[kept - 1]];
  const int32_t latest = order[kept - 1];
  double left = 0;
  for (double* weight = weights; weight < last; ++weight) {
    const bool stays = *weight > lightest || (*weight == lightest && weight - weights <= latest);
    left += *weight = stays ? *weight : 0.0;
  }
  return left;
}

// A token for this uniform number in [0, 1). V is padded with logits of −∞; scratch holds 2 V doubles. Always an
// allowed token, even of logits that aren't numbers.
inline int64_t draw(const Decode& d, const float* logits, const uint8_t* allowed, double uniform, double* scratch) {
  int64_t likeliest = -1, last = 0;
  for (int64_t v = 0; v < d.V; ++v) {
    if (!allowed[v]) continue;
    last = v;
    if (likeliest < 0 || logits[v] > logits[likeliest]) likeliest = v;
  }
  if (d.temperature == 0 || likeliest < 0) return likeliest < 0 ? 0 : likeliest;
  double* weights = scratch;
  for (int64_t v = 0; v < d.V; ++v) weights[v] = allowed[v] ? logits[v] / d.temperature : NOTHING;
  double sum = exponentials(weights, d.V, logits[likeliest] / d.temperature);
  if (!(sum >= 1 && sum <= std::numeric_limits<double>::max())) return last;
  if (0 < d.top_k && d.top_k < d.V) {
    double* sorted = scratch + d.V;
    std::copy(weights, weights + d.V, sorted);
    std::nth_element(sorted, sorted + d.top_k - 1, sorted + d.V, [](double a, double b) { return a > b; });
    const double least = sorted[d.top_k - 1];
    sum = 0;
    for (int64_t v = 0; v < d.V; ++v) sum += weights[v] = weights[v] >= least ? weights[v] : 0.0;
  }
  if (d.top_p < 1) sum = nucleus(weights, d.V, sum, d.top_p, reinterpret_cast<int32_t*>(scratch + d.V));
  const double target = uniform * sum;
  double cumulative = 0;
  int64_t token = likeliest;
  for (int64_t v = 0; v < d.V; ++v) {
    if (weights[v] == 0) continue;
    token = v;
    cumulative += weights[v];
    if (cumulative > target) break;
  }
  return token;
}

}  // namespace ISA
