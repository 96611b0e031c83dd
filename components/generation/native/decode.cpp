// The loop: rows of the table → layers → head → a token, for each sequence until it ends. Threads split the sequences:
// one never needs another, so there is no barrier.
#include "cells.h"
#include "decode.h"
#include "draw.h"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace ISA {

// Where the rows of a layer lie: sequence n's at base + n * stride.
struct Rows {
  const float* start;
  int64_t start_stride;
  const void *x, *recurrent;  // values: floats or bytes
  int64_t x_stride, H;        // H: of h, 0 for the head
  const float* h;
  float *next, *c;
  uint8_t* bytes;
  int64_t units;
};

template <class Arithmetic, class Cell, int R>
void tile(const Layer& layer, const Rows& rows, int64_t block, const int64_t* n) {
  using Value = typename Arithmetic::Value;
  typename Arithmetic::Sum sums[R][Cell::sums] = {};
  const Value *below[R], *before[R];
  for (int r = 0; r < R; ++r) {
    below[r] = static_cast<const Value*>(rows.x) + n[r] * rows.x_stride;
    before[r] = static_cast<const Value*>(rows.recurrent) + n[r] * rows.H;
  }
  auto* weight = static_cast<const typename Arithmetic::Weight*>(layer.weight) +
                 block * (layer.inputs + rows.H) * Cell::registers * LANES;
  weight = accumulate<Arithmetic, Cell, R, false>(weight, layer.inputs, below, sums);
  accumulate<Arithmetic, Cell, R, true>(weight, rows.H, before, sums);
  const int64_t first = block * Cell::sums * LANES, unit = block * Cell::units * LANES;
  for (int r = 0; r < R; ++r) {
    Vec done[Cell::sums];
    for (int s = 0; s < Cell::sums; ++s) {
      const int64_t at = first + s * LANES;
      done[s] = load(rows.start + n[r] * rows.start_stride + at) + Arithmetic::result(sums[r][s], layer, at);
    }
    const int64_t at = n[r] * rows.units + unit;
    Cell::finish({rows.h + at, rows.next + at, rows.c + at, rows.bytes ? rows.bytes + at : nullptr}, done);
  }
}

// All blocks of a layer for the sequences that `alive` lists, in turns from the first to the last and from the last to
// the first: weights that are just too large for a cache would else push themselves out of it every time.
template <class Arithmetic, class Cell>
void run_layer(const Layer& layer, const Rows& rows, const int64_t* alive, int64_t count, bool backwards) {
  const int64_t blocks = rows.units / (Cell::units * LANES), tiles = (count + ROWS - 1) / ROWS;
  for (int64_t turn = 0; turn < blocks; ++turn)
    for (int64_t part = 0; part < tiles; ++part) {
      const int64_t block = backwards ? blocks - 1 - turn : turn;
      const int64_t first = count * part / tiles, taken = count * (part + 1) / tiles - first;
      const int64_t* n = alive + first;
      switch (taken) {
        case 1: tile<Arithmetic, Cell, 1>(layer, rows, block, n); break;
        case 2: tile<Arithmetic, Cell, 2>(layer, rows, block, n); break;
#if LANES == 16
        case 3: tile<Arithmetic, Cell, 3>(layer, rows, block, n); break;
        case 4: tile<Arithmetic, Cell, 4>(layer, rows, block, n); break;
        case 5: tile<Arithmetic, Cell, 5>(layer, rows, block, n); break;
        case 6: tile<Arithmetic, Cell, 6>(layer, rows, block, n); break;
#endif
      }
    }
}

// The first layer's sums of one sequence before the recurrence: the rows of its token and of what stands beside it.
inline void begin(const Decode& d, int64_t n, int64_t token) {
  float* to = d.start + n * d.width;
  std::memcpy(to, d.table + token * d.width, sizeof(float) * d.width);
  for (int64_t s = 1; s < d.streams; ++s) {
    const float* row = d.table + d.context[n * (d.streams - 1) + s - 1] * d.width;
    for (int64_t j = 0; j < d.width; j += LANES) store(to + j, load(to + j) + load(row + j));
  }
}

// One token of every sequence listed through all layers, to its logits.
template <class Arithmetic, class Cell>
void step(const Decode& d, int64_t phase, const int64_t* alive, int64_t count) {
  constexpr bool bytes = Arithmetic::group > 1 || sizeof(typename Arithmetic::Value) == 1;
  const int64_t present = phase * d.N * d.H, next = (1 - phase) * d.N * d.H;
  const void* x = nullptr;
  for (int64_t l = 0; l < d.layers; ++l) {
    const Layer& layer = d.layer[l];
    const Rows rows = {l ? layer.bias : d.start,
                       l ? 0 : d.width,
                       x,
                       bytes ? static_cast<const void*>(layer.bytes + present) : layer.h + present,
                       l ? d.H : 0,
                       d.H,
                       layer.h + present,
                       layer.h + next,
                       layer.c,
                       bytes ? layer.bytes + next : nullptr,
                       d.H};
    run_layer<Arithmetic, Cell>(layer, rows, alive, count, phase);
    x = bytes ? static_cast<const void*>(layer.bytes + next) : layer.h + next;
  }
  const Layer& head = d.layer[d.layers];
  const Rows rows = {head.bias, 0, x, x, d.H, 0, d.logits, d.logits, nullptr, nullptr, d.V};
  run_layer<Arithmetic, Head>(head, rows, alive, count, phase);
}

template <class Arithmetic, class Cell>
void run(Decode& d) {
#pragma omp parallel num_threads(d.threads)
  {
#ifdef _OPENMP
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
#else
    const int64_t me = 0, all = 1;
#endif
    const int64_t first = d.N * me / all, last = d.N * (me + 1) / all;
    int64_t *alive = d.alive + first, count = 0;
    double* scratch = d.scratch + me * 2 * d.V;
    for (int64_t n = first; n < last; ++n)
      if (!d.ended[n]) alive[count++] = n;
    for (int64_t t = 0; t < d.steps && count; ++t) {
      for (int64_t i = 0; i < count; ++i) begin(d, alive[i], d.tokens[alive[i] * d.tokens_stride + t]);
      step<Arithmetic, Cell>(d, (d.phase + t) & 1, alive, count);
      int64_t left = 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t n = alive[i];
        const float* logits = d.logits + n * d.V;
        const int64_t token = draw(d, logits, d.allowed + n * d.allowed_stride, d.uniforms[n * d.steps + t], scratch);
        d.tokens[n * d.tokens_stride + t + 1] = token;
        d.nats[n] += surprise(logits, d.V, token, scratch);
        d.made[n] += 1;
        d.ended[n] = token == d.eos;
        if (!d.ended[n]) alive[left++] = n;
      }
      count = left;
    }
  }
  d.phase = (d.phase + d.steps) & 1;
}

template <class Arithmetic>
void run_kind(Decode& d) {
  switch (d.kind) {
    case RNN_TANH: return run<Arithmetic, Rnn<false>>(d);
    case RNN_RELU: return run<Arithmetic, Rnn<true>>(d);
    case GRU: return run<Arithmetic, Gru>(d);
    case LSTM: return run<Arithmetic, Lstm>(d);
  }
}

void run_any(Decode& d) { d.bytes ? run_kind<Bytes>(d) : run_kind<Floats>(d); }

#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
extern const Decoder decoder;
const Decoder decoder = {TEXT(ISA), LANES, Bytes::group, run_any};

}  // namespace ISA
