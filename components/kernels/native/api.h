// What Python passes: one struct for a whole pass over a sequence. Layouts as in the kernels by hand: time-major, the
// states of step 0 first. build.py mirrors these structs.
#pragma once

#include <cstdint>

struct Pass {
  int64_t T, B, H, threads;
  int64_t dy_t, dy_b;      // floats from one step, or row, of dy to the next
  int64_t table_rows;
  const int64_t* lengths;  // [B], or null when no row ends before T
  const int64_t* ids;      // [T, B] rows of the table, or null
  const float* table;      // [table_rows, G]: W_ih x + b_ih for each one-hot x
  const float* weight;     // [G, H]
  const float* bias;       // [G]
  float* gates;            // [T, B, G]: forward leaves the activated gates here (rnn: nothing); without ids it finds the
                           // input product here
  float* m;                // gru [T, B, H]: W_hn h + b_hn
  float* h;                // [T+1, B, H]
  float* c;                // lstm [T+1, B, H]
  const float* dy;         // [T, B, H], by its strides
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

// c [rows, columns] = a · b (+ start), or aᵀ · b when `transposed` (a is then [K, rows]); b is read by its two strides.
struct Product {
  int64_t rows, K, columns, transposed, threads;
  int64_t stride_a, stride_b_k, stride_b_n, stride_c;
  const float *a, *b, *start;  // start [columns], or null; not when transposed
  float *c, *sums;             // sums [rows] of a over K, or null; only when transposed
};

// Cross-entropy of each row of logits [N, V]; they become its gradient, softmax minus one-hot.
struct Entropy {
  int64_t N, V, threads;
  int64_t ignored;         // a target of this value: no loss, no gradient
  const int64_t* targets;  // [N]
  float* logits;
  double* nats;            // [N], natural logarithm
};

// Room for this many floats, until the next call by the same thread; kept for that call.
float* workspace(int64_t floats);

// One instruction set's functions. Those that look ids or targets up return false when one names no row or column.
struct Kernels {
  const char* name;
  bool (*forward[4])(const Pass&);
  void (*backward[4])(const Pass&);
  bool (*gather)(const Gather&);
  bool (*scatter)(const Gather&);
  void (*product)(const Product&);
  bool (*entropy)(const Entropy&);
};
enum Kind { RNN_TANH, RNN_RELU, GRU, LSTM };
