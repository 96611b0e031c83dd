// Products of a few rows with a packed weight, in float or in int8, with the sums kept in registers. Each sum runs over
// k in order, whatever the rows beside it: how many sequences are decoded together changes no bit.
#pragma once

#include "decode.h"
#include "vector.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ISA {

#if LANES == 16
constexpr int ROWS = 6;  // of a tile: 6 x 4 sums + 4 weights + 1 value: 29 of 32 registers
#else
constexpr int ROWS = 2;  // 2 x 4 + 4 + 1: 13 of 16
#endif

struct Floats {
  using Weight = float;
  using Value = float;
  using Register = Vec;
  using Spread = float;
  using Sum = Vec;
  static constexpr int group = 1;
  static Register read(const Weight* w) { return load(w); }
  static Spread spread(const Value* value) { return *value; }
  static Sum add(Sum sum, Register w, Spread value) { return sum + w * value; }
  static Vec result(Sum sum, const Layer&, int64_t) { return sum; }
};

// Rows are scaled so that their largest weight is ±127; h is the byte 127 h + 128. The 128 is taken off again as
// 128 times the row's sum of weights.
struct Bytes {
  using Weight = int8_t;
  using Value = uint8_t;
  using Sum = Bits;
#if defined(__AVX512VNNI__)
  using Register = __m512i;
  using Spread = __m512i;
  static constexpr int group = 4;
  static Register read(const Weight* w) { return _mm512_loadu_si512(w); }
  static Spread spread(const Value* value) {
    int32_t four;
    std::memcpy(&four, value, 4);
    return _mm512_set1_epi32(four);
  }
  static Sum add(Sum sum, Register w, Spread value) { return (Sum)_mm512_dpbusd_epi32((__m512i)sum, value, w); }
#elif defined(__AVX2__)
  // 16-bit products in pairs: the 8-bit instruction would saturate
  using Register = __m256i;
  using Spread = __m256i;
  static constexpr int group = 2;
  static Register read(const Weight* w) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)w)); }
  static Spread spread(const Value* value) { return _mm256_set1_epi32(value[0] | value[1] << 16); }
  static Sum add(Sum sum, Register w, Spread value) { return sum + (Sum)_mm256_madd_epi16(w, value); }
#else
  typedef int8_t Packed __attribute__((vector_size(LANES)));
  using Register = Bits;
  using Spread = int32_t;
  static constexpr int group = 1;
  static Register read(const Weight* w) {
    Packed packed;
    std::memcpy(&packed, w, LANES);
    return __builtin_convertvector(packed, Bits);
  }
  static Spread spread(const Value* value) { return *value; }
  static Sum add(Sum sum, Register w, Spread value) { return sum + w * value; }
#endif
  static Vec result(Sum sum, const Layer& layer, int64_t at) {
    Bits offset;
    std::memcpy(&offset, layer.offset + at, sizeof(Bits));
    return __builtin_convertvector(sum - offset, Vec) * load(layer.scale + at);
  }
};

// h in [−1, 1] as bytes.
inline void store_bytes(uint8_t* to, Vec h) {
  typedef uint8_t Packed __attribute__((vector_size(LANES)));
  const Packed packed = __builtin_convertvector(__builtin_convertvector(h * 127.0f + 128.5f, Bits), Packed);
  std::memcpy(to, &packed, LANES);
}

// sums[r][slot(v)] += values[r][:count] · w[:, v] for R rows; returns where the weights go on.
template <class Arithmetic, class Cell, int R, bool RECURRENT>
inline const typename Arithmetic::Weight* accumulate(const typename Arithmetic::Weight* w, int64_t count,
                                                     const typename Arithmetic::Value* const* values,
                                                     typename Arithmetic::Sum (*sums)[Cell::sums]) {
  constexpr int group = Arithmetic::group, stride = LANES * group;
  for (int64_t k = 0; k < count; k += group) {
    typename Arithmetic::Register registers[Cell::registers];
#pragma GCC unroll 4
    for (int v = 0; v < Cell::registers; ++v) registers[v] = Arithmetic::read(w + v * stride);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const typename Arithmetic::Spread value = Arithmetic::spread(values[r] + k);
#pragma GCC unroll 4
      for (int v = 0; v < Cell::registers; ++v) {
        auto& sum = sums[r][RECURRENT ? Cell::recurrent_slot(v) : v];
        sum = Arithmetic::add(sum, registers[v], value);
      }
    }
    w += Cell::registers * stride;
  }
  return w;
}

}  // namespace ISA
