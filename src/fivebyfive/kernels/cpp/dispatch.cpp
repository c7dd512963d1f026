// The library's door: which instruction sets are in it, which of them this processor runs.
#include <cstring>

#include "api.h"

extern const Kernels kernels_plain;
#if defined(FBF_X86)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
#endif

#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// The i-th instruction set that this processor runs, the fastest first; null after the last.
EXPORT const Kernels* fbf_kernels(int index) {
    const Kernels* usable[4] = {};
    int count = 0;
#if defined(FBF_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        usable[count++] = &kernels_avx512;
    if (avx2) usable[count++] = &kernels_avx2;
#endif
    usable[count++] = &kernels_plain;
    return index < 0 || index >= count ? nullptr : usable[index];
}
