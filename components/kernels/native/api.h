// What Python passes: one struct for a whole pass over a sequence. Layouts as in the kernels by hand: time-major, the
// states of step 0 first. build.py mirrors this struct.
#pragma once

#include <cstdint>

struct Pass {
  int64_t T, B, H, threads;
  const int64_t* lengths;  // [B], or null when no row ends before T
  const float* weight;     // [G, H]
  const float* bias;       // [G]
  float* packed;           // room for the packed weights
  float* scratch;          // gru forward: [B, G], what W_hh makes of h
  float* gates;            // [T, B, G]: forward reads the input product and leaves the activated gates (rnn: h's input)
  float* m;                // gru [T, B, H]: W_hn h + b_hn
  float* h;                // [T+1, B, H]
  float* c;                // lstm [T+1, B, H]
  const float* dy;         // [T, B, H]
  float* dgates;           // [T, B, G]; gru [T, B, 4H]: to m r z n
  float* dh;               // [B, H]: from the final state to the initial state
  float* dc;               // lstm, likewise
  float* record;           // [T, B] norms of the gradient of h, or null
};

// The rows of a [rows_count, G] matrix that ids [N, S] name: gathered into out [N, G], or added up from it.
struct Gather {
  int64_t N, S, G, rows_count, threads;
  int64_t stride;      // floats from one row of `steps` to the next
  const int64_t* ids;  // [N, S]
  const float* bias;   // [G]
  float* table;        // [rows_count, G]
  float* steps;        // [N, stride]
  float* sums;         // [G]: sum of all steps
};

// c [rows, columns] += a · b, or aᵀ · b when `transposed` (a is then [K, rows]); b is read by its two strides.
struct Product {
  int64_t rows, K, columns, transposed, threads;
  int64_t stride_a, stride_b_k, stride_b_n, stride_c;
  const float *a, *b;
  float *packed, *c;
};

// One instruction set's functions. `gather` and `scatter` return false when an id names no row.
struct Kernels {
  const char* name;
  int64_t panel;  // columns of a panel of packed weights
  void (*forward[4])(const Pass&);
  void (*backward[4])(const Pass&);
  bool (*gather)(const Gather&);
  bool (*scatter)(const Gather&);
  void (*product)(const Product&);
};
enum Kind { RNN_TANH, RNN_RELU, GRU, LSTM };
