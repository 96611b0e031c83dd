// The cells' arithmetic on one row at one step; the numbers are the equations of rnn.py, gru.py and lstm.py.
#pragma once

#include "vector.h"

namespace ISA {

// Where one row at one step finds its data.
struct Row {
  int64_t H;
  float *gates, *hidden, *m, *h, *c;         // h, c: of step t; the new ones are `next` floats further
  const float *bias, *dy;
  float *dgates, *dh, *dc;
  int64_t next;
};

#define FOR_UNITS(j, n) for (int64_t j = 0, n = row.H; j < row.H; j += LANES, n -= LANES)

template <bool RELU>
struct Rnn {
  static constexpr int gates = 1, dgates = 1;
  static constexpr bool own_product = false, cell = false;
  static void forward(const Row& row) {
    FOR_UNITS(j, n) {
      const Vec s = load(row.gates + j, n) + load(row.bias + j, n);
      store(row.h + row.next + j, RELU ? (s < 0 ? Vec{} : s) : tanh(s), n);  // (2)
    }
  }
  static void backward(const Row& row) {
    FOR_UNITS(j, n) {
      const Vec h = load(row.h + row.next + j, n), dh = load(row.dh + j, n) + load(row.dy + j, n);
      store(row.dgates + j, RELU ? (h > 0 ? dh : Vec{}) : dh * (1 - h * h), n);  // (2')
      store(row.dh + j, Vec{}, n);
    }
  }
};

struct Gru {
  static constexpr int gates = 3, dgates = 4;
  static constexpr bool own_product = true, cell = false;
  static void forward(const Row& row) {
    const int64_t H = row.H;
    FOR_UNITS(j, n) {
      const auto x = [&](int gate) { return load(row.gates + gate * H + j, n); };
      const auto w = [&](int gate) { return load(row.hidden + gate * H + j, n) + load(row.bias + gate * H + j, n); };
      const Vec r = sigmoid(x(0) + w(0)), z = sigmoid(x(1) + w(1)), m = w(2);  // (1) (2) (3)
      const Vec candidate = tanh(x(2) + r * m);                                // (4)
      store(row.gates + j, r, n);
      store(row.gates + H + j, z, n);
      store(row.gates + 2 * H + j, candidate, n);
      store(row.m + j, m, n);
      store(row.h + row.next + j, candidate + z * (load(row.h + j, n) - candidate), n);  // (5)
    }
  }
  static void backward(const Row& row) {
    const int64_t H = row.H;
    FOR_UNITS(j, n) {
      const Vec r = load(row.gates + j, n), z = load(row.gates + H + j, n), candidate = load(row.gates + 2 * H + j, n);
      const Vec dh = load(row.dh + j, n) + load(row.dy + j, n);
      const Vec dn = dh * (1 - z) * (1 - candidate * candidate);                    // (5') (4')
      store(row.dgates + j, dn * r, n);                                             // (4') to m
      store(row.dgates + H + j, dn * load(row.m + j, n) * r * (1 - r), n);          // (4') (1')
      store(row.dgates + 2 * H + j, dh * (load(row.h + j, n) - candidate) * z * (1 - z), n);  // (5') (2')
      store(row.dgates + 3 * H + j, dn, n);
      store(row.dh + j, dh * z, n);  // (5') straight to the step before; the product adds the rest
    }
  }
};

struct Lstm {
  static constexpr int gates = 4, dgates = 4;
  static constexpr bool own_product = false, cell = true;
  static void forward(const Row& row) {
    const int64_t H = row.H;
    FOR_UNITS(j, n) {
      const auto s = [&](int gate) { return load(row.gates + gate * H + j, n) + load(row.bias + gate * H + j, n); };
      const Vec i = sigmoid(s(0)), f = sigmoid(s(1)), g = tanh(s(2)), o = sigmoid(s(3));  // (2) (3) (4) (6)
      const Vec c = f * load(row.c + j, n) + i * g;                                       // (5)
      store(row.gates + j, i, n);
      store(row.gates + H + j, f, n);
      store(row.gates + 2 * H + j, g, n);
      store(row.gates + 3 * H + j, o, n);
      store(row.c + row.next + j, c, n);
      store(row.h + row.next + j, o * tanh(c), n);  // (7)
    }
  }
  static void backward(const Row& row) {
    const int64_t H = row.H;
    FOR_UNITS(j, n) {
      const Vec i = load(row.gates + j, n), f = load(row.gates + H + j, n);
      const Vec g = load(row.gates + 2 * H + j, n), o = load(row.gates + 3 * H + j, n);
      const Vec tanh_c = tanh(load(row.c + row.next + j, n));
      const Vec dh = load(row.dh + j, n) + load(row.dy + j, n);
      const Vec dc = load(row.dc + j, n) + dh * o * (1 - tanh_c * tanh_c);      // (7')
      store(row.dgates + j, dc * g * i * (1 - i), n);                          // (5') (2')
      store(row.dgates + H + j, dc * load(row.c + j, n) * f * (1 - f), n);     // (5') (3')
      store(row.dgates + 2 * H + j, dc * i * (1 - g * g), n);                  // (5') (4')
      store(row.dgates + 3 * H + j, dh * tanh_c * o * (1 - o), n);             // (7') (6')
      store(row.dc + j, dc * f, n);                                            // (5') to the step before
      store(row.dh + j, Vec{}, n);
    }
  }
};

}  // namespace ISA
