// The cells' arithmetic on one register of units of one row at one step; the numbers are the equations of rnn.py, gru.py
// and lstm.py.
#pragma once

#include "vector.h"

namespace ISA {

// Where one row at one step finds its data.
struct Row {
  int64_t H;
  const float *x, *bias, *dy;  // x: the input product
  float *gates, *m, *h, *c;    // h, c: of step t; the new ones are `next` floats further
  float *dgates, *dh, *dc;     // dh, dc: to step t, without what comes through W_hh
  int64_t next;
};

// Units j … of a row, the first n of a register of them.
struct Units {
  const Row& row;
  int64_t j, n;
  Vec at(const float* from, int gate = 0) const { return load(from + gate * row.H + j, n); }
  void put(float* to, Vec value, int gate = 0) const { store(to + gate * row.H + j, value, n); }
};

// forward: `w` is W_hh h of each gate, the gates `stride` floats apart. backward: `dh` is the gradient of h⟨t⟩.
template <bool RELU>
struct Rnn {
  static constexpr int gates = 1, dgates = 1, registers = PANEL_REGISTERS;  // of a gate in a panel
  static constexpr bool own_product = false, cell = false;
  static void forward(const Units& u, const float* w, int64_t) {
    const Vec s = u.at(u.row.x) + load(w) + u.at(u.row.bias);
    u.put(u.row.h + u.row.next, RELU ? (s < 0 ? Vec{} : s) : tanh(s));  // (2)
  }
  static void backward(const Units& u, Vec dh) {
    const Vec h = u.at(u.row.h + u.row.next);
    u.put(u.row.dgates, RELU ? (h > 0 ? dh : Vec{}) : dh * (1 - h * h));  // (2')
    u.put(u.row.dh, Vec{});
  }
};

struct Gru {
  static constexpr int gates = 3, dgates = 4, registers = 1;
  static constexpr bool own_product = true, cell = false;
  static void forward(const Units& u, const float* w, int64_t stride) {
    const auto hidden = [&](int gate) { return load(w + gate * stride) + u.at(u.row.bias, gate); };
    const Vec r = sigmoid(u.at(u.row.x) + hidden(0)), z = sigmoid(u.at(u.row.x, 1) + hidden(1));  // (1) (2)
    const Vec m = hidden(2), candidate = tanh(u.at(u.row.x, 2) + r * m);                          // (3) (4)
    u.put(u.row.gates, r);
    u.put(u.row.gates, z, 1);
    u.put(u.row.gates, candidate, 2);
    u.put(u.row.m, m);
    u.put(u.row.h + u.row.next, candidate + z * (u.at(u.row.h) - candidate));  // (5)
  }
  static void backward(const Units& u, Vec dh) {
    const Vec r = u.at(u.row.gates), z = u.at(u.row.gates, 1), candidate = u.at(u.row.gates, 2);
    const Vec dn = dh * (1 - z) * (1 - candidate * candidate);          // (5') (4')
    u.put(u.row.dgates, dn * r);                                        // (4') to m
    u.put(u.row.dgates, dn * u.at(u.row.m) * r * (1 - r), 1);           // (4') (1')
    u.put(u.row.dgates, dh * (u.at(u.row.h) - candidate) * z * (1 - z), 2);  // (5') (2')
    u.put(u.row.dgates, dn, 3);
    u.put(u.row.dh, dh * z);  // (5') straight to the step before
  }
};

struct Lstm {
  static constexpr int gates = 4, dgates = 4, registers = 1;
  static constexpr bool own_product = false, cell = true;
  static void forward(const Units& u, const float* w, int64_t stride) {
    const auto s = [&](int gate) { return u.at(u.row.x, gate) + load(w + gate * stride) + u.at(u.row.bias, gate); };
    const Vec i = sigmoid(s(0)), f = sigmoid(s(1)), g = tanh(s(2)), o = sigmoid(s(3));  // (2) (3) (4) (6)
    const Vec c = f * u.at(u.row.c) + i * g;                                            // (5)
    u.put(u.row.gates, i);
    u.put(u.row.gates, f, 1);
    u.put(u.row.gates, g, 2);
    u.put(u.row.gates, o, 3);
    u.put(u.row.c + u.row.next, c);
    u.put(u.row.h + u.row.next, o * tanh(c));  // (7)
  }
  static void backward(const Units& u, Vec dh) {
    const Vec i = u.at(u.row.gates), f = u.at(u.row.gates, 1), g = u.at(u.row.gates, 2), o = u.at(u.row.gates, 3);
    const Vec tanh_c = tanh(u.at(u.row.c + u.row.next));
    const Vec dc = u.at(u.row.dc) + dh * o * (1 - tanh_c * tanh_c);  // (7')
    u.put(u.row.dgates, dc * g * i * (1 - i));                      // (5') (2')
    u.put(u.row.dgates, dc * u.at(u.row.c) * f * (1 - f), 1);       // (5') (3')
    u.put(u.row.dgates, dc * i * (1 - g * g), 2);                   // (5') (4')
    u.put(u.row.dgates, dh * tanh_c * o * (1 - o), 3);              // (7') (6')
    u.put(u.row.dc, dc * f);                                        // (5') to the step before
    u.put(u.row.dh, Vec{});
  }
};

}  // namespace ISA
