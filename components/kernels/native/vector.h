// One register of floats, as wide as the instruction set this file is compiled for, in the vector extension that GCC
// and Clang share; and the two nonlinearities. Everything lives in a namespace of its own per instruction set, so that the
// linker can't merge an inline function of one with another's.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#define ISA avx512
#define LANES 16
#define PANEL_REGISTERS 4  // 6 rows x 4 registers of sums + 4 of weights: 28 of 32
#elif defined(__AVX2__)
#define ISA avx2
#define LANES 8
#define PANEL_REGISTERS 2  // 6 x 2 + 2: 14 of 16
#else
#define ISA baseline
#define LANES 4
#define PANEL_REGISTERS 2
#endif

namespace ISA {

typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef int32_t Bits __attribute__((vector_size(4 * LANES)));

inline Vec load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vec value) { *reinterpret_cast<Unaligned*>(to) = value; }

// The first `count` floats only (at least one); the rest is 0 and is not written back.
inline Vec load(const float* from, int64_t count) {
  if (count >= LANES) return load(from);
  Vec value = {};
  std::memcpy(&value, from, sizeof(float) * (count & (LANES - 1)));
  return value;
}
inline void store(float* to, Vec value, int64_t count) {
  if (count >= LANES) return store(to, value);
  std::memcpy(to, &value, sizeof(float) * (count & (LANES - 1)));
}

inline float sum(Vec value) {
  float total = 0;
  for (int lane = 0; lane < LANES; ++lane) total += value[lane];
  return total;
}

// tanh by the rational minimax approximation of degree 13/6 that Eigen and XLA use (Eigen: MathFunctionsImpl.h);
// within 3e-7 of the true value everywhere, and NaN stays NaN. Beyond the limit it is exactly 1: with 1 − 2e-7 there,
// the slope 1 − tanh² of large cells isn't 0, always errs to one side, and long sequences add it up (T = 300: errors of
// gradients 15 times those of torch's operations; with 1, the same).
inline Vec tanh(Vec whole) {
  const Vec limit = Vec{} + 7.90531110763549805f, one = Vec{} + 1.0f;
  Vec x = whole > limit ? limit : whole;
  x = x < -limit ? -limit : x;
  const Vec s = x * x;
  Vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  const Vec y = x * p / q;
  return whole > limit ? one : whole < -limit ? -one : y;
}

// σ(x) = 1 / (1 + e^-x), with e^y = 2^n e^r, |r| <= ln2 / 2, and e^r by the polynomial of Cephes' expf: as fast as
// (1 + tanh(x / 2)) / 2, with half its error.
inline Vec sigmoid(Vec x) {
  const Vec limit = Vec{} + 87.0f;
  Vec y = -x;
  y = y > limit ? limit : y;
  y = y < -limit ? -limit : y;
  const float rounder = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = y * 1.44269504088896341f + rounder;
  const Vec n = shifted - rounder;
  const Vec r = n * 2.12194440e-4f + (n * -0.693359375f + y);
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + (r + 1.0f);
  const Vec exponential = (Vec)((Bits)p + ((Bits)shifted << 23));
  return 1.0f / (exponential + (y * 0.0f + 1.0f));  // y · 0: a NaN's bits don't survive the line above
}

}  // namespace ISA
