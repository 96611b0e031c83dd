// The functions that Python calls, in the best version that this processor can run.
#include "decode.h"

#include <cstring>

#if defined(__aarch64__)
#define NARROWEST neon
#else
#define NARROWEST baseline
#endif
namespace NARROWEST { extern const Decoder decoder; }
#if defined(__x86_64__)
namespace avx2 { extern const Decoder decoder; }
namespace avx512 { extern const Decoder decoder; }
#endif

#pragma GCC visibility push(default)
extern "C" {

// The version for the widest instruction set that this processor has and `limit` (null: no limit) allows.
const Decoder* reprise_decoder(const char* limit) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (limit && !std::strcmp(limit, "baseline")) return &NARROWEST::decoder;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512vnni");
  if (wide && !(limit && !std::strcmp(limit, "avx2"))) return &avx512::decoder;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2::decoder;
#else
  (void)limit;
#endif
  return &NARROWEST::decoder;
}

void reprise_decode(const Decoder* decoder, Decode* decode) { decoder->run(*decode); }

}  // extern "C"
#pragma GCC visibility pop
