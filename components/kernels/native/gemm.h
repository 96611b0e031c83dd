// Matrix products. The right-hand matrix is packed into panels a few registers wide, so that the inner loop reads it
// front to back (the recurrent one stays the same for all steps); sums stay in registers. Every sum runs in an order of
// its own that depends on the shapes alone: not on the neighbouring rows, nor on how many threads share the work.
#pragma once

#include "vector.h"

namespace ISA {

constexpr int64_t PANEL = LANES * PANEL_REGISTERS;
constexpr int ROWS = SUMS / PANEL_REGISTERS;  // rows of a tile

inline int64_t blocks(int64_t count, int64_t size) { return (count + size - 1) / size; }
inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Row first and count of the nth of `parts` nearly equal parts of `rows` rows.
struct Part {
  int64_t first, count;
  Part(int64_t rows, int64_t n, int64_t parts) : first(rows * n / parts), count(rows * (n + 1) / parts - first) {}
};

// A panel of `width` columns out of a matrix whose entry (k, n) is at from[k * stride_k + n * stride_n]; of those, the
// first `count` are there, the rest is 0. `to` is the panel's column 0, its rows lie `stride_to` apart.
inline void pack(const float* from, int64_t K, int64_t stride_k, int64_t stride_n, int64_t count, int64_t width,
                 float* to, int64_t stride_to) {
  if (count < width)
    for (int64_t k = 0; k < K; ++k) std::memset(to + k * stride_to, 0, sizeof(float) * width);
  if (stride_n == 1) {
    for (int64_t k = 0; k < K; ++k) std::memcpy(to + k * stride_to, from + k * stride_k, sizeof(float) * count);
    return;
  }
  constexpr int64_t BLOCK = 16;  // what is written meanwhile stays in the first cache
  for (int64_t start = 0; start < K; start += BLOCK)
    for (int64_t n = 0; n < count; ++n)
      for (int64_t k = start; k < K && k < start + BLOCK; ++k)
        to[k * stride_to + n] = from[k * stride_k + n * stride_n];
}

// Panels first … last−1 of a [K, columns] matrix.
inline void pack_panels(const float* from, int64_t K, int64_t columns, int64_t stride_k, int64_t stride_n,
                        float* packed, int64_t first, int64_t last) {
  for (int64_t panel = first; panel < last; ++panel)
    pack(from + panel * PANEL * stride_n, K, stride_k, stride_n, least(columns - panel * PANEL, PANEL), PANEL,
         packed + panel * PANEL * K, PANEL);
}

// The left-hand rows of a tile: rows that lie `stride` apart, or (stride 0) a packed block with its rows side by side.
struct Left {
  const float* data;
  int64_t stride;
};

// Where a tile's sums go: row r's at data[r * stride], `count` of them, plus what lies at added[r * stride_added].
struct Target {
  float* data;
  int64_t stride, count;
  const float* added;  // or null
  int64_t stride_added;
};

// `R` rows times the first `V` registers of a panel that is `W` floats wide.
template <int R, int V, int W, bool PACKED>
__attribute__((noinline)) void tile(Left a, const float* panel, int64_t K, Target c) {
  Vec sums[R][V] = {};
  if (c.added && c.stride_added)
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) __builtin_prefetch(c.added + r * c.stride_added + v * LANES, 1);
  for (int64_t k = 0; k < K; ++k) {
    Vec w[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) w[v] = *reinterpret_cast<const Vec*>(panel + k * W + v * LANES);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += (PACKED ? a.data[k * R + r] : a.data[r * a.stride + k]) * w[v];
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int64_t left = v < V - 1 ? LANES : c.count - (V - 1) * LANES;  // only the last register may be partly used
      if (c.added) sums[r][v] += load(c.added + r * c.stride_added + v * LANES, left);
      store(c.data + r * c.stride + v * LANES, sums[r][v], left);
    }
  }
}

template <int R, int V, int W, bool PACKED>
inline void tile_of(int64_t rows, Left a, const float* panel, int64_t K, Target c) {
  if (rows >= R) return tile<R, V, W, PACKED>(a, panel, K, c);
  if constexpr (R > 1) tile_of<R - 1, V, W, PACKED>(rows, a, panel, K, c);
}

// As many registers of a panel as c has columns.
template <int V, bool PACKED>
inline void tile_within(int64_t rows, Left a, const float* panel, int64_t K, Target c) {
  if (c.count > (V - 1) * LANES) return tile_of<ROWS, V, PANEL, PACKED>(rows, a, panel, K, c);
  if constexpr (V > 1) tile_within<V - 1, PACKED>(rows, a, panel, K, c);
}

// c = a · (packed [K, columns] matrix) + added, for all rows.
inline void multiply(int64_t rows, Left a, const float* packed, int64_t K, int64_t columns, Target c) {
  const int64_t tiles = blocks(rows, ROWS);
  for (int64_t at = 0; at < columns; at += PANEL)
    for (int64_t n = 0; n < tiles; ++n) {
      const Part part(rows, n, tiles);
      tile_within<PANEL_REGISTERS, false>(
          part.count, {a.data + part.first * a.stride, a.stride}, packed + at * K, K,
          {c.data + part.first * c.stride + at, c.stride, least(columns - at, PANEL),
           c.added ? c.added + part.first * c.stride_added + at : nullptr, c.stride_added});
    }
}

constexpr int64_t STEPS = 256, WIDTH = 512;  // of a block of b, which each thread packs for itself: 512 KiB
constexpr int64_t CHUNK = 16 * ROWS;         // rows of c for which a is read at a time: whole cache lines of it

// c[first … last−1, :columns] = aᵀ · b for a [K, ·] whose rows lie a.stride apart: a weight gradient, K the steps.
// sums, unless null, receives the sum of a over the steps. b's entry (k, n) is at b[k * stride_k + n * stride_n].
inline void multiply_transposed(int64_t first, int64_t last, Left a, const float* b, int64_t stride_k, int64_t stride_n,
                                int64_t K, int64_t columns, float* c, int64_t stride_c, float* sums, float* packed) {
  alignas(64) float left[STEPS * CHUNK];
  for (int64_t at = 0; at < columns; at += WIDTH) {
    const int64_t width = least(columns - at, WIDTH);
    for (int64_t k = 0; k < K; k += STEPS) {
      const int64_t steps = least(K - k, STEPS);
      pack_panels(b + k * stride_k + at * stride_n, steps, width, stride_k, stride_n, packed, 0, blocks(width, PANEL));
      for (int64_t row = first; row < last; row += CHUNK) {
        const int64_t count = least(last - row, CHUNK);
        Vec totals[(CHUNK + LANES - 1) / LANES] = {};
        for (int64_t step = 0; step < steps; ++step) {
          const float* from = a.data + (k + step) * a.stride + row;
          __builtin_prefetch(from + 8 * a.stride);  // no prefetcher follows strides beyond a page
          __builtin_prefetch(from + 8 * a.stride + 16);
          for (int64_t r = 0; r < count; r += ROWS) {
            const int64_t taken = least(count - r, ROWS);
            float* to = left + r * STEPS + step * taken;
            if (taken == ROWS) std::memcpy(to, from + r, sizeof(float) * ROWS);
            else std::memcpy(to, from + r, sizeof(float) * taken);
          }
          if (sums && !at)
            for (int64_t r = 0; r < count; r += LANES) totals[r / LANES] += load(from + r, count - r);
        }
        if (sums && !at)
          for (int64_t r = 0; r < count; r += LANES) {
            float* to = sums + row + r;
            store(to, (k ? load(to, count - r) : Vec{}) + totals[r / LANES], count - r);
          }
        for (int64_t r = 0; r < count; r += ROWS)
          for (int64_t n = 0; n < width; n += PANEL) {
            float* to = c + (row + r) * stride_c + at + n;
            tile_within<PANEL_REGISTERS, true>(least(count - r, ROWS), {left + r * STEPS, 0}, packed + n * steps, steps,
                                               {to, stride_c, least(width - n, PANEL), k ? to : nullptr, stride_c});
          }
      }
    }
  }
}

}  // namespace ISA
