// The passes over a sequence and the products around them. Threads split the batch: a row never needs another row, so
// there is no barrier inside a sequence. The recurrent product of a tile of rows and units stays in the first cache until
// the cell's arithmetic has read it.
#include "api.h"
#include "cells.h"
#include "gemm.h"

#include <cmath>
#ifdef _OPENMP
#include <omp.h>
#endif

namespace ISA {

// This thread's share of `count` things.
struct Share {
  int64_t me = 0, all = 1, first, last;
  explicit Share(int64_t count) {
#ifdef _OPENMP
    me = omp_get_thread_num(), all = omp_get_num_threads();
#endif
    first = count * me / all;
    last = count * (me + 1) / all;
  }
};

template <class Cell>
Row row_at(const Pass& p, int64_t t, int64_t b) {
  const int64_t H = p.H, at = t * p.B + b;
  Row row = {};
  row.H = H;
  row.next = p.B * H;
  row.gates = p.gates + at * Cell::gates * H;
  row.x = p.ids ? p.table + p.ids[at] * Cell::gates * H : row.gates;
  row.h = p.h + at * H;
  row.bias = p.bias;
  if (Cell::own_product) row.m = p.m + at * H;
  if (Cell::cell) row.c = p.c + at * H, row.dc = p.dc + b * H;
  row.dy = p.dy + t * p.dy_t + b * p.dy_b;
  row.dgates = p.dgates + at * Cell::dgates * H;
  row.dh = p.dh + b * H;
  return row;
}

inline bool alive(const Pass& p, int64_t t, int64_t b) { return !p.lengths || t < p.lengths[b]; }

inline void expect(const float* data) { __builtin_prefetch(data, 1); }

inline bool ids_inside(const int64_t* ids, int64_t count, int64_t rows) {
  for (int64_t n = 0; n < count; ++n)
    if (ids[n] < 0 || ids[n] >= rows) return false;
  return true;
}

template <class Cell>
bool forward(const Pass& p) {
  if (p.ids && !ids_inside(p.ids, p.T * p.B, p.table_rows)) return false;
  // a panel: the same units of every gate side by side
  constexpr int V = Cell::gates * Cell::registers, R = SUMS / V, UNITS = Cell::registers * LANES, W = V * LANES;
  const int64_t H = p.H;
  float* const packed = workspace(Cell::gates * blocks(H, UNITS) * UNITS * H);
#pragma omp parallel num_threads(p.threads)
  {
    const Share panels(blocks(H, UNITS)), rows(p.B);
    for (int64_t n = panels.first; n < panels.last; ++n)
      for (int gate = 0; gate < Cell::gates; ++gate)
        pack(p.weight + (gate * H + n * UNITS) * H, H, 1, H, least(H - n * UNITS, UNITS), UNITS,
             packed + n * W * H + gate * UNITS, W);
#pragma omp barrier
    const int64_t count = rows.last - rows.first, tiles = blocks(count, R);
    alignas(64) float sums[R * W];
    for (int64_t t = 0; t < p.T; ++t)
      for (int64_t j = 0; j < H; j += UNITS)
        for (int64_t n = 0; n < tiles; ++n) {
          const Part part(count, n, tiles);
          const int64_t b = rows.first + part.first;
          Row taken[R];
          for (int64_t r = 0; r < part.count; ++r) {
            const Row& row = taken[r] = row_at<Cell>(p, t, b + r);
            for (int gate = 0; gate < Cell::gates; ++gate)
              for (int64_t u = j; u < j + UNITS; u += LANES) expect(row.gates + gate * H + u);
          }
          tile_of<R, V, W, false>(part.count, {p.h + (t * p.B + b) * H, H}, packed + j * Cell::gates * H, H,
                                  {sums, W, W, nullptr, 0});  // (1)
          for (int64_t r = 0; r < part.count; ++r)
            for (int64_t u = 0; u < UNITS && j + u < H; u += LANES) {
              const Units units = {taken[r], j + u, H - j - u};
              const Row& row = taken[r];
              if (alive(p, t, b + r)) {
                Cell::forward(units, sums + r * W + u, UNITS);
              } else {  // an ended row's state stands still
                units.put(row.h + row.next, units.at(row.h));
                if (Cell::cell) units.put(row.c + row.next, units.at(row.c));
              }
            }
        }
  }
  return true;
}

template <class Cell>
void backward(const Pass& p) {
  const int64_t H = p.H, G = Cell::gates * H, D = Cell::dgates * H;
  const int64_t rotated = Cell::own_product ? 2 * H : 0;  // the gru's gradients lie in the order m r z n
  float* const packed = workspace(blocks(H, PANEL) * PANEL * G);
#pragma omp parallel num_threads(p.threads)
  {
    const Share panels(blocks(H, PANEL)), rows(p.B);
    for (int64_t n = panels.first; n < panels.last; ++n) {
      const int64_t at = n * PANEL, width = least(H - at, PANEL);
      float* to = packed + at * G;
      pack(p.weight + rotated * H + at, G - rotated, H, 1, width, PANEL, to, PANEL);
      pack(p.weight + at, rotated, H, 1, width, PANEL, to + (G - rotated) * PANEL, PANEL);
    }
#pragma omp barrier
    const int64_t count = rows.last - rows.first, tiles = blocks(count, ROWS);
    alignas(64) float sums[ROWS * PANEL] = {};
    for (int64_t t = p.T - 1; t >= 0; --t) {
      for (int64_t j = 0; j < H; j += PANEL)
        for (int64_t n = 0; n < tiles; ++n) {
          const Part part(count, n, tiles);
          const int64_t b = rows.first + part.first;
          Row taken[ROWS];
          for (int64_t r = 0; r < part.count; ++r) {
            const Row& row = taken[r] = row_at<Cell>(p, t, b + r);
            for (int64_t u = j; u < j + PANEL; u += LANES) {
              for (int gate = 0; gate < Cell::gates; ++gate) expect(row.gates + gate * H + u);
              expect(row.dy + u);
              if (Cell::cell) expect(row.c + u);
            }
          }
          if (t + 1 < p.T)
            tile_of<ROWS, PANEL_REGISTERS, PANEL, false>(
                part.count, {p.dgates + ((t + 1) * p.B + b) * D, D}, packed + j * G, G,
                {sums, PANEL, PANEL, nullptr, 0});  // (1') of the step after
          for (int64_t r = 0; r < part.count; ++r) {
            const Row& row = taken[r];
            Vec squares = {};
            for (int64_t u = 0; u < PANEL && j + u < H; u += LANES) {
              const Units units = {row, j + u, H - j - u};
              if (alive(p, t, b + r)) {
                const Vec dh = units.at(row.dh) + load(sums + r * PANEL + u) + units.at(row.dy);
                squares += dh * dh;
                Cell::backward(units, dh);
              } else {  // dh and dc are handed on
                for (int gate = 0; gate < Cell::dgates; ++gate) units.put(row.dgates, Vec{}, gate);
              }
            }
            if (p.record) p.record[t * p.B + b + r] = (j ? p.record[t * p.B + b + r] : 0.0f) + sum(squares);
          }
        }
      if (p.record)
        for (int64_t b = rows.first; b < rows.last; ++b) p.record[t * p.B + b] = std::sqrt(p.record[t * p.B + b]);
    }
    float* dh = p.dh + rows.first * H;
    if (p.T) multiply(count, {p.dgates + rows.first * D, D}, packed, G, H, {dh, H, H, dh, H});  // (1') of step 1
  }
}

bool gather(const Gather& q) {
  if (!ids_inside(q.ids, q.N * q.S, q.rows_count)) return false;
#pragma omp parallel num_threads(q.threads)
  {
    const Share steps(q.N);
    for (int64_t n = steps.first; n < steps.last; ++n)
      for (int64_t j = 0; j < q.G; j += LANES) {
        Vec total = load(q.bias + j, q.G - j);
        for (int64_t s = 0; s < q.S; ++s) total += load(q.table + q.ids[n * q.S + s] * q.G + j, q.G - j);
        store(q.steps + n * q.stride + j, total, q.G - j);
      }
  }
  return true;
}

// Threads split the columns, so every sum runs over the steps in order.
bool scatter(const Gather& q) {
  if (!ids_inside(q.ids, q.N * q.S, q.rows_count)) return false;
  constexpr int64_t BLOCK = 4 * LANES;  // columns at a time: their part of a common table fits the first cache
#pragma omp parallel num_threads(q.threads)
  {
    const Share parts(blocks(q.G, BLOCK));
    for (int64_t part = parts.first; part < parts.last; ++part) {
      const int64_t first = part * BLOCK, count = least(q.G - first, BLOCK);
      Vec totals[BLOCK / LANES] = {};
      for (int64_t r = 0; r < q.rows_count; ++r) std::memset(q.table + r * q.G + first, 0, sizeof(float) * count);
      for (int64_t n = 0; n < q.N; ++n) {
        const float* from = q.steps + n * q.stride + first;
        for (int64_t j = 0; j < BLOCK; j += 16) __builtin_prefetch(from + 8 * q.stride + j);
        for (int64_t j = 0; j < count; j += LANES) {
          const Vec step = load(from + j, count - j);
          totals[j / LANES] += step;
          for (int64_t s = 0; s < q.S; ++s) {
            float* to = q.table + q.ids[n * q.S + s] * q.G + first + j;
            store(to, load(to, count - j) + step, count - j);
          }
        }
      }
      for (int64_t j = 0; j < count; j += LANES) store(q.sums + first + j, totals[j / LANES], count - j);
    }
  }
  return true;
}

void product(const Product& q) {
  const int64_t block = STEPS * blocks(least(q.columns, WIDTH), PANEL) * PANEL;  // of b, for each thread its own
  float* const packed = workspace(q.transposed ? q.threads * block : q.K * blocks(q.columns, PANEL) * PANEL);
#pragma omp parallel num_threads(q.threads)
  {
    const Share panels(blocks(q.columns, PANEL)), tiles(blocks(q.rows, ROWS));
    const int64_t first = tiles.first * ROWS, last = least(tiles.last * ROWS, q.rows);
    if (q.transposed) {
      multiply_transposed(first, last, {q.a, q.stride_a}, q.b, q.stride_b_k, q.stride_b_n, q.K, q.columns, q.c,
                          q.stride_c, q.sums, packed + block * panels.me);
    } else {
      pack_panels(q.b, q.K, q.columns, q.stride_b_k, q.stride_b_n, packed, panels.first, panels.last);
#pragma omp barrier
      constexpr int64_t BLOCK = 16 * ROWS;  // rows that stay in the caches while all panels pass
      for (int64_t row = first; row < last; row += BLOCK)
        multiply(least(last - row, BLOCK), {q.a + row * q.stride_a, q.stride_a}, packed, q.K, q.columns,
                 {q.c + row * q.stride_c, q.stride_c, q.columns, q.start, 0});
    }
  }
}

bool entropy(const Entropy& q) {
  for (int64_t n = 0; n < q.N; ++n)
    if (q.targets[n] != q.ignored && (q.targets[n] < 0 || q.targets[n] >= q.V)) return false;
#pragma omp parallel num_threads(q.threads)
  {
    const Share rows(q.N);
    for (int64_t n = rows.first; n < rows.last; ++n) {
      float* const row = q.logits + n * q.V;
      const int64_t target = q.targets[n];
      q.nats[n] = 0;
      if (target == q.ignored) {
        std::memset(row, 0, sizeof(float) * q.V);
        continue;
      }
      const auto at = [&](int64_t j) {  // what lies beyond the row can neither be the largest nor count
        if (q.V - j >= LANES) return load(row + j);
        Vec value = Vec{} - 1e30f;
        std::memcpy(&value, row + j, sizeof(float) * (q.V - j));
        return value;
      };
      Vec most = at(0);
      for (int64_t j = LANES; j < q.V; j += LANES) most = at(j) > most ? at(j) : most;
      float largest = most[0];
      for (int lane = 1; lane < LANES; ++lane) largest = most[lane] > largest ? most[lane] : largest;
      const float aimed = row[target];
      Vec totals = {};
      for (int64_t j = 0; j < q.V; j += LANES) {
        const Vec weight = exponential(at(j) - largest);
        totals += weight;
        store(row + j, weight, q.V - j);
      }
      const float total = sum(totals), scale = 1.0f / total;
      for (int64_t j = 0; j < q.V; j += LANES) store(row + j, load(row + j, q.V - j) * scale, q.V - j);
      row[target] -= 1.0f;
      q.nats[n] = std::log(static_cast<double>(total)) + largest - aimed;
    }
  }
  return true;
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
extern const Kernels kernels;
const Kernels kernels = {TEXT(ISA),
                         {forward<Rnn<false>>, forward<Rnn<true>>, forward<Gru>, forward<Lstm>},
                         {backward<Rnn<false>>, backward<Rnn<true>>, backward<Gru>, backward<Lstm>},
                         gather,
                         scatter,
                         product,
                         entropy};

}  // namespace ISA
