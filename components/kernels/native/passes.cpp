// The passes over a sequence and the products around them. Threads split the batch: a row never needs another row, so
// there is no barrier inside a sequence.
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
  int64_t first, last;
  explicit Share(int64_t count) {
#ifdef _OPENMP
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
#else
    const int64_t me = 0, all = 1;
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
  row.h = p.h + at * H;
  row.bias = p.bias;
  if (Cell::own_product) row.hidden = p.scratch + b * Cell::gates * H, row.m = p.m + at * H;
  if (Cell::cell) row.c = p.c + at * H, row.dc = p.dc + b * H;
  row.dy = p.dy + at * H;
  row.dgates = p.dgates + at * Cell::dgates * H;
  row.dh = p.dh + b * H;
  return row;
}

inline bool alive(const Pass& p, int64_t t, int64_t b) { return !p.lengths || t < p.lengths[b]; }

template <class Cell>
void forward(const Pass& p) {
  const int64_t H = p.H, G = Cell::gates * H;
#pragma omp parallel num_threads(p.threads)
  {
    const Share panels(panel_count(G)), rows(p.B);
    pack(p.weight, H, G, 1, H, p.packed, panels.first, panels.last);
#pragma omp barrier
    const int64_t count = rows.last - rows.first;
    for (int64_t t = 0; t < p.T; ++t) {
      const Row first = row_at<Cell>(p, t, rows.first);
      float* product = Cell::own_product ? first.hidden : first.gates;
      if (Cell::own_product) std::memset(product, 0, 4 * count * G);
      multiply(count, first.h, H, p.packed, H, G, product, G);  // (1)
      for (int64_t b = rows.first; b < rows.last; ++b) {
        const Row row = row_at<Cell>(p, t, b);
        if (alive(p, t, b)) {
          Cell::forward(row);
        } else {  // an ended row's state stands still
          std::memcpy(row.h + row.next, row.h, 4 * H);
          if (Cell::cell) std::memcpy(row.c + row.next, row.c, 4 * H);
        }
      }
    }
  }
}

template <class Cell>
void backward(const Pass& p) {
  const int64_t H = p.H, G = Cell::gates * H;
#pragma omp parallel num_threads(p.threads)
  {
    const Share panels(panel_count(H)), rows(p.B);
    pack(p.weight, G, H, H, 1, p.packed, panels.first, panels.last);
#pragma omp barrier
    for (int64_t t = p.T - 1; t >= 0; --t) {
      for (int64_t b = rows.first; b < rows.last; ++b) {
        const Row row = row_at<Cell>(p, t, b);
        if (p.record) {
          Vec squares = {};
          FOR_UNITS(j, n) {
            const Vec dh = load(row.dh + j, n) + load(row.dy + j, n);
            squares += dh * dh;
          }
          p.record[t * p.B + b] = alive(p, t, b) ? std::sqrt(sum(squares)) : 0.0f;
        }
        if (alive(p, t, b)) Cell::backward(row);
        else std::memset(row.dgates, 0, 4 * Cell::dgates * H);  // dh and dc are handed on
      }
      const Row first = row_at<Cell>(p, t, rows.first);
      multiply(rows.last - rows.first, first.dgates, Cell::dgates * H, p.packed, G, H, first.dh, H);  // (1')
    }
  }
}

inline bool ids_inside(const Gather& q) {
  for (int64_t n = 0; n < q.N * q.S; ++n)
    if (q.ids[n] < 0 || q.ids[n] >= q.rows_count) return false;
  return true;
}

bool gather(const Gather& q) {
  if (!ids_inside(q)) return false;
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

// Threads split the columns, so every sum runs over the steps in order. S = 0: only the sum of all steps.
bool scatter(const Gather& q) {
  if (!ids_inside(q)) return false;
#pragma omp parallel num_threads(q.threads)
  {
    const Share blocks((q.G + LANES - 1) / LANES);
    for (int64_t n = 0; n < q.N; ++n)
      for (int64_t j = blocks.first * LANES; j < blocks.last * LANES; j += LANES) {
        const Vec step = load(q.steps + n * q.stride + j, q.G - j);
        store(q.sums + j, load(q.sums + j, q.G - j) + step, q.G - j);
        for (int64_t s = 0; s < q.S; ++s) {
          float* to = q.table + q.ids[n * q.S + s] * q.G + j;
          store(to, load(to, q.G - j) + step, q.G - j);
        }
      }
  }
  return true;
}

void product(const Product& q) {
#pragma omp parallel num_threads(q.threads)
  {
    const Share panels(panel_count(q.columns)), tiles((q.rows + ROWS - 1) / ROWS);
    pack(q.b, q.K, q.columns, q.stride_b_k, q.stride_b_n, q.packed, panels.first, panels.last);
#pragma omp barrier
    const int64_t first = tiles.first * ROWS, last = tiles.last * ROWS < q.rows ? tiles.last * ROWS : q.rows;
    if (q.transposed) {
      multiply_transposed(first, last, q.a, q.stride_a, q.packed, q.K, q.columns, q.c, q.stride_c);
    } else {
      constexpr int64_t BLOCK = 16 * ROWS;  // rows that stay in the caches while all panels pass
      for (int64_t row = first; row < last; row += BLOCK)
        multiply(last - row < BLOCK ? last - row : BLOCK, q.a + row * q.stride_a, q.stride_a, q.packed, q.K, q.columns,
                 q.c + row * q.stride_c, q.stride_c);
    }
  }
}

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
extern const Kernels kernels;
const Kernels kernels = {TEXT(ISA),
                         PANEL,
                         {forward<Rnn<false>>, forward<Rnn<true>>, forward<Gru>, forward<Lstm>},
                         {backward<Rnn<false>>, backward<Rnn<true>>, backward<Gru>, backward<Lstm>},
                         gather,
                         scatter,
                         product};

}  // namespace ISA
