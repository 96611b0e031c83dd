// Matrix products. The right-hand matrix is packed once into panels of PANEL columns, so that the inner loop reads it
// front to back (the recurrent one stays the same for all steps); sums stay in registers. Every sum runs in an order
// of its own that depends on the shapes alone: not on the neighbouring rows, nor on how many threads share the work.
#pragma once

#include "vector.h"

namespace ISA {

constexpr int64_t PANEL = LANES * PANEL_REGISTERS;
constexpr int ROWS = 6;  // rows of a tile

inline int64_t panel_count(int64_t columns) { return (columns + PANEL - 1) / PANEL; }

// Panels first … last−1 of a [K, columns] matrix whose entry (k, n) is at from[k * stride_k + n * stride_n]; columns
// beyond the last are 0.
inline void pack(const float* from, int64_t K, int64_t columns, int64_t stride_k, int64_t stride_n, float* packed,
                 int64_t first, int64_t last) {
  for (int64_t panel = first; panel < last; ++panel) {
    float* to = packed + panel * PANEL * K;
    const float* source = from + panel * PANEL * stride_n;
    const int64_t left = columns - panel * PANEL, count = left < PANEL ? left : PANEL;
    if (count < PANEL) std::memset(to, 0, sizeof(float) * PANEL * K);
    if (stride_n == 1) {
      for (int64_t k = 0; k < K; ++k) std::memcpy(to + k * PANEL, source + k * stride_k, sizeof(float) * count);
    } else {
      for (int64_t n = 0; n < count; ++n)
        for (int64_t k = 0; k < K; ++k) to[k * PANEL + n] = source[k * stride_k + n * stride_n];
    }
  }
}

// c[r, :count] += a[r, :K] · panel for R rows, using `V` registers of the panel's width. a is either rows that lie
// stride_a apart, or a packed block with its R rows side by side.
template <int R, int V, bool PACKED>
inline void tile(const float* a, int64_t stride_a, const float* panel, int64_t K, float* c, int64_t stride_c,
                 int64_t count) {
  Vec sums[R][V] = {};
  for (int64_t k = 0; k < K; ++k) {
    Vec w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = *reinterpret_cast<const Vec*>(panel + k * PANEL + v * LANES);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += (PACKED ? a[k * R + r] : a[r * stride_a + k]) * w[v];
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      float* to = c + r * stride_c + v * LANES;
      const int64_t left = v < V - 1 ? LANES : count - (V - 1) * LANES;  // only the last register may be partly used
      store(to, load(to, left) + sums[r][v], left);
    }
  }
}

template <int V, bool PACKED>
inline void tile_rows(int64_t rows, const float* a, int64_t stride_a, const float* panel, int64_t K, float* c,
                      int64_t stride_c, int64_t count) {
  switch (rows) {
    case 1: return tile<1, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
    case 2: return tile<2, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
    case 3: return tile<3, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
    case 4: return tile<4, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
    case 5: return tile<5, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
    case 6: return tile<6, V, PACKED>(a, stride_a, panel, K, c, stride_c, count);
  }
}

template <bool PACKED>
inline void tile_any(int64_t rows, const float* a, int64_t stride_a, const float* panel, int64_t K, float* c,
                     int64_t stride_c, int64_t count) {
  if (count <= LANES) return tile_rows<1, PACKED>(rows, a, stride_a, panel, K, c, stride_c, count);
#if PANEL_REGISTERS == 4
  if (count <= 2 * LANES) return tile_rows<2, PACKED>(rows, a, stride_a, panel, K, c, stride_c, count);
  if (count <= 3 * LANES) return tile_rows<3, PACKED>(rows, a, stride_a, panel, K, c, stride_c, count);
#endif
  tile_rows<PANEL_REGISTERS, PACKED>(rows, a, stride_a, panel, K, c, stride_c, count);
}

// c[r, :columns] += a[r, :K] · (packed matrix), for all rows.
inline void multiply(int64_t rows, const float* a, int64_t stride_a, const float* packed, int64_t K, int64_t columns,
                     float* c, int64_t stride_c) {
  const int64_t tiles = (rows + ROWS - 1) / ROWS;
  for (int64_t panel = 0; panel < panel_count(columns); ++panel) {
    const int64_t left = columns - panel * PANEL;
    for (int64_t n = 0; n < tiles; ++n) {
      const int64_t first = rows * n / tiles, taken = rows * (n + 1) / tiles - first;
      tile_any<false>(taken, a + first * stride_a, stride_a, packed + panel * PANEL * K, K,
                      c + first * stride_c + panel * PANEL, stride_c, left < PANEL ? left : PANEL);
    }
  }
}

// c[first … last−1, :columns] += aᵀ · (packed matrix) for a [K, ·] whose rows lie stride_a apart: a weight gradient,
// K the steps. Taken BLOCK steps at a time, so that what a tile reads stays in the caches.
inline void multiply_transposed(int64_t first, int64_t last, const float* a, int64_t stride_a, const float* packed,
                                int64_t K, int64_t columns, float* c, int64_t stride_c) {
  constexpr int64_t BLOCK = 256;
  float block[BLOCK * ROWS];
  for (int64_t k = 0; k < K; k += BLOCK) {
    const int64_t steps = K - k < BLOCK ? K - k : BLOCK;
    for (int64_t row = first; row < last; row += ROWS) {
      const int64_t taken = last - row < ROWS ? last - row : ROWS;
      for (int64_t step = 0; step < steps; ++step)
        for (int64_t r = 0; r < taken; ++r) block[step * taken + r] = a[(k + step) * stride_a + row + r];
      for (int64_t panel = 0; panel < panel_count(columns); ++panel) {
        const int64_t left = columns - panel * PANEL;
        tile_any<true>(taken, block, 0, packed + panel * PANEL * K + k * PANEL, steps,
                       c + row * stride_c + panel * PANEL, stride_c, left < PANEL ? left : PANEL);
      }
    }
  }
}

}  // namespace ISA
