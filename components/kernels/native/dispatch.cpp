// The functions that Python calls, in the best version that this processor can run; the choice is made once.
#include "api.h"

#include <cstdlib>
#include <cstring>
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace baseline { extern const Kernels kernels; }
#if defined(__x86_64__)
namespace avx2 { extern const Kernels kernels; }
namespace avx512 { extern const Kernels kernels; }
#endif

static const Kernels* chosen = &baseline::kernels;

#pragma GCC visibility push(default)
extern "C" {

// Chooses the widest instruction set that this processor has and `limit` (null: no limit) allows; returns its name.
const char* reprise_choose(const char* limit) {
  chosen = &baseline::kernels;
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

int64_t reprise_panel() { return chosen->panel; }
void reprise_forward(int kind, const Pass* pass) { chosen->forward[kind](*pass); }
void reprise_backward(int kind, const Pass* pass) { chosen->backward[kind](*pass); }
bool reprise_gather(const Gather* gather) { return chosen->gather(*gather); }
void reprise_product(const Product* product) { chosen->product(*product); }
bool reprise_scatter(const Gather* gather) { return chosen->scatter(*gather); }

// Asks for huge pages where a large new buffer will lie: fewer page faults, fewer misses of the address cache.
void reprise_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, first = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) / page * page;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // extern "C"
#pragma GCC visibility pop
