// Calls the C++ kernels for another process: test_aarch64.py runs this under an emulator and keeps the tensors itself.
// A request: a function's name, its kind (-1: it has none, -2: a decoder), blocks of bytes, the first one the struct, and
// where in them addresses of blocks stand. The answer: what it returned, and all the blocks as they are now.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "decode.h"

static int64_t number() {
  int64_t value;
  if (std::fread(&value, 8, 1, stdin) != 1) std::exit(0);
  return value;
}

static std::vector<char*> blocks;
static std::vector<int64_t> sizes;

static void answer(int64_t value) {
  std::fwrite(&value, 8, 1, stdout);
  for (size_t n = 0; n < blocks.size(); ++n) std::fwrite(blocks[n], 1, sizes[n], stdout), std::free(blocks[n]);
  blocks.clear(), sizes.clear();
  std::fflush(stdout);
}

int main(int, char** paths) {
  void *const kernels = dlopen(paths[1], RTLD_NOW), *const decode = dlopen(paths[2], RTLD_NOW);
  if (!kernels || !decode) return std::fprintf(stderr, "%s\n", dlerror()), 1;
  reinterpret_cast<const char* (*)(const char*)>(dlsym(kernels, "reprise_choose"))(nullptr);
  const auto* decoder = reinterpret_cast<const Decoder* (*)(const char*)>(dlsym(decode, "reprise_decoder"))(nullptr);
  std::printf("%s %d %d\n", decoder->name, static_cast<int>(decoder->lanes), static_cast<int>(decoder->group));
  std::fflush(stdout);
  for (;;) {
    std::string name(number(), 0);
    if (std::fread(&name[0], 1, name.size(), stdin) != name.size()) return 1;
    const int64_t kind = number(), count = number();
    for (int64_t n = 0; n < count; ++n) {
      sizes.push_back(number());
      blocks.push_back(static_cast<char*>(std::aligned_alloc(64, (sizes[n] + 127) / 64 * 64)));
      if (sizes[n] && std::fread(blocks[n], sizes[n], 1, stdin) != 1) return 1;
    }
    for (int64_t left = number(); left; --left) {
      const int64_t block = number(), offset = number(), target = number();
      std::memcpy(blocks[block] + offset, &blocks[target], 8);
    }
    void* const f = dlsym(kind == -2 ? decode : kernels, name.c_str());
    bool result = true;
    if (kind == -2) reinterpret_cast<void (*)(const void*, void*)>(f)(decoder, blocks[0]);
    else if (kind == -1) result = reinterpret_cast<bool (*)(void*)>(f)(blocks[0]);
    else result = reinterpret_cast<bool (*)(int, void*)>(f)(static_cast<int>(kind), blocks[0]);
    answer(result);
  }
}
