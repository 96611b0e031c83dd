// What Python passes to the sampling loop. library.py mirrors these structs; H and V are padded there with units and
// tokens that stay at 0 and −∞, so that every register is full. N sequences, T tokens ahead of them.
#pragma once

#include <cstdint>

// One layer, or the head. Weights lie in the order they are read in: [blocks, (inputs + H) / GROUP, registers, LANES,
// GROUP]; what belongs to a sum is [blocks, sums, LANES].
struct Layer {
  int64_t inputs;         // units of the layer below; 0 in the first layer, whose input products are the table's rows
  const void* weight;     // float, or int8
  const float* bias;      // null in the first layer: the table holds it
  const float* scale;     // int8: what 1 in a sum stands for
  const int32_t* offset;  // int8: 128 times the sum of the row
  float* h;               // [2, N, H]: the present one and the next take turns
  float* c;               // lstm: [N, H]
  uint8_t* bytes;         // int8: [2, N, H], 127 h + 128
};

struct Decode {
  int64_t kind, bytes, layers, N, H, V, streams, width, threads;
  int64_t steps;           // tokens to draw
  int64_t phase;           // which of the two h is the present one
  int64_t tokens_stride, allowed_stride;  // of a sequence
  int64_t top_k, eos;      // 0 = all; −1 = no token ends a sequence
  double temperature, top_p;
  const Layer* layer;      // [layers], then the head
  const float* table;      // [rows, width]: what each row of a one-hot input adds to the first layer's sums
  const int64_t* context;  // [N, streams − 1] rows of the table
  int64_t* tokens;         // [N, 1 + steps]: the first is given
  const uint8_t* allowed;  // [V] for all, or [N, V]
  const double* uniforms;  // [N, steps], in [0, 1)
  float* start;            // [N, width]
  float* logits;           // [N, V]
  double* nats;            // [N]: the sum of surprises
  int64_t* made;           // [N]: tokens drawn
  uint8_t* ended;          // [N]
  int64_t* alive;          // [N] scratch
  double* scratch;         // [threads, 2 V]
};

struct Decoder {
  const char* name;
  int64_t lanes, group;  // GROUP of the int8 weights; floats have 1
  void (*run)(Decode&);
};
enum Kind { RNN_TANH, RNN_RELU, GRU, LSTM };
