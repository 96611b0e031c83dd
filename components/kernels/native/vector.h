// One register of floats, as wide as the instruction set this file is compiled for, in the vector extension that GCC
// and Clang share; and the two nonlinearities. Everything lives in a namespace of its own per instruction set, so that the
// linker can't merge an inline function of one with another's.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define ISA avx512
#define LANES 16
#define PANEL_REGISTERS 4
#define SUMS 24  // registers of a tile's sums; 6 rows x 4 of them + 4 of weights: 28 of 32
#elif defined(__AVX2__)
#define ISA avx2
#define LANES 8
#define PANEL_REGISTERS 2
#define SUMS 12  // 6 x 2 + 2: 14 of 16
#elif defined(__aarch64__)
#define ISA neon
#define LANES 4
#define PANEL_REGISTERS 4
#define SUMS 24  // 28 of 32, as AVX-512
#else
#define ISA baseline
#define LANES 4
#define PANEL_REGISTERS 2
#define SUMS 12
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

// 1 / x for normal x whose reciprocal is normal too, within 1e-7 of it: a table's 14 bits and a step of Newton's.
inline Vec reciprocal(Vec x) {
#if defined(__AVX512F__)
  const Vec y = (Vec)_mm512_rcp14_ps((__m512)x);
  return y * (2.0f - x * y);
#else
  return 1.0f / x;
#endif
}

// x, no further from 0 than the limit; a NaN stays one.
inline Vec within(Vec x, float limit) {
  const Vec most = Vec{} + limit;
#if defined(__AVX512F__)
  return (Vec)_mm512_max_ps((__m512)-most, _mm512_min_ps((__m512)most, (__m512)x));  // of a NaN, the second
#else
  x = x > most ? most : x;
  return x < -most ? -most : x;
#endif
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
  const Vec x = within(whole, 7.90531110763549805f), s = x * x;
  Vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  Vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  const Vec y = x * p * reciprocal(q);
  return whole > limit ? one : whole < -limit ? -one : y;
}

// 2^y for |y| <= 126: 2^n 2^f, |f| <= 1/2, and 2^f by a polynomial of degree 6 (relative error 2e-9 before rounding;
// fitted by weighted least squares). A NaN stays one.
inline Vec power_of_two(Vec y) {
#if defined(__AVX512F__)
  const Vec n = (Vec)_mm512_roundscale_ps((__m512)y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const float rounder = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = y + rounder, n = shifted - rounder;
#endif
  const Vec f = y - n;
  Vec p = f * 1.53457966e-4f + 1.33999312e-3f;
  p = p * f + 9.61848902e-3f;
  p = p * f + 5.55032878e-2f;
  p = p * f + 2.40226469e-1f;
  p = p * f + 6.93147206e-1f;
  p = p * f + 1.0f;
#if defined(__AVX512F__)
  return (Vec)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  return (Vec)((Bits)p + ((Bits)shifted << 23)) + y * 0.0f;  // y · 0: a NaN's bits don't survive what stands before it
#endif
}

constexpr float LOG2_E = 1.44269504088896341f;

// e^x, no less than 2^-126 and no more than 2^126.
inline Vec exponential(Vec x) { return power_of_two(within(x * LOG2_E, 126.0f)); }

inline Vec sigmoid(Vec x) { return reciprocal(1.0f + power_of_two(within(x * -LOG2_E, 126.0f))); }

}  // namespace ISA
