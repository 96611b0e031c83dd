// The functions that Python calls, in the best version that this processor can run; the choice is made once.
#include "api.h"

#include <cstdlib>
#include <cstring>
#include <new>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__aarch64__)
#define NARROWEST neon
#else
#define NARROWEST baseline
#endif
namespace NARROWEST { extern const Kernels kernels; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

float* workspace(int64_t floats) {
  struct Room {
    void* data = nullptr;
    size_t bytes = 0;
    ~Room() { std::free(data); }
  };
  static thread_local Room room;
  const size_t page = 2 << 20, wanted = (floats * sizeof(float) + page - 1) / page * page;
  if (wanted > room.bytes) {
    std::free(room.data);
    room = {};
    if (posix_memalign(&room.data, page, wanted)) throw std::bad_alloc();
    room.bytes = wanted;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    madvise(room.data, wanted, MADV_HUGEPAGE);
#endif
  }
  return static_cast<float*>(room.data);
}

static const Kernels* chosen = &NARROWEST::kernels;

#pragma GCC visibility push(default)
extern "C" {

// Chooses the widest instruction set that this processor has and `limit` (null: no limit) allows; returns its name.
const char* reprise_choose(const char* limit) {
  chosen = &NARROWEST::kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool baseline_only = limit && !std::strcmp(limit, "baseline");
  if (!baseline_only && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    chosen = &avx2::kernels;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl");
    if (wide && !(limit && !std::strcmp(limit, "avx2"))) chosen = &avx512::kernels;
  }
#endif
  return chosen->name;
}

bool reprise_forward(int kind, const Pass* pass) { return chosen->forward[kind](*pass); }
void reprise_backward(int kind, const Pass* pass) { chosen->backward[kind](*pass); }
bool reprise_gather(const Gather* gather) { return chosen->gather(*gather); }
void reprise_product(const Product* product) { chosen->product(*product); }
bool reprise_entropy(const Entropy* entropy) { return chosen->entropy(*entropy); }
bool reprise_scatter(const Gather* gather) { return chosen->scatter(*gather); }

}  // extern "C"
#pragma GCC visibility pop
