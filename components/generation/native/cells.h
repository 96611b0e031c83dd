// What each cell makes of its sums, in registers; the equations are those of components/kernels/{rnn,gru,lstm}.py.
#pragma once

#include "products.h"

namespace ISA {

// One block of units of one sequence.
struct Place {
  const float* h;  // the present one
  float* next;
  float* c;
  uint8_t* bytes;  // of the next h, or null
};

inline void keep(const Place& at, int64_t lane, Vec h) {
  store(at.next + lane, h);
  if (at.bytes) store_bytes(at.bytes + lane, h);
}

// `registers` of weights are read for each k, `units` registers of units come out of the `sums`.
template <bool RELU>
struct Rnn {
  static constexpr int registers = 2, sums = 2, units = 2;
  static constexpr int recurrent_slot(int v) { return v; }
  static void finish(const Place& at, const Vec* s) {
    for (int u = 0; u < units; ++u) keep(at, u * LANES, RELU ? (s[u] < 0 ? Vec{} : s[u]) : tanh(s[u]));
  }
};

struct Gru {
  static constexpr int registers = 3, sums = 4, units = 1;  // r, z, n from below, n from h: r comes between them
  static constexpr int recurrent_slot(int v) { return v == 2 ? 3 : v; }
  static void finish(const Place& at, const Vec* s) {
    const Vec r = sigmoid(s[0]), z = sigmoid(s[1]), candidate = tanh(s[2] + r * s[3]);
    keep(at, 0, candidate + z * (load(at.h) - candidate));
  }
};

struct Lstm {
  static constexpr int registers = 4, sums = 4, units = 1;
  static constexpr int recurrent_slot(int v) { return v; }
  static void finish(const Place& at, const Vec* s) {
    const Vec c = sigmoid(s[1]) * load(at.c) + sigmoid(s[0]) * tanh(s[2]);
    store(at.c, c);
    keep(at, 0, sigmoid(s[3]) * tanh(c));
  }
};

struct Head {
  static constexpr int registers = 2, sums = 2, units = 2;
  static constexpr int recurrent_slot(int v) { return v; }
  static void finish(const Place& at, const Vec* s) {
    for (int u = 0; u < units; ++u) store(at.next + u * LANES, s[u]);
  }
};

}  // namespace ISA
