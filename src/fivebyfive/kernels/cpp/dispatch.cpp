// What the library exports: its ABI, and which of its instruction sets this processor runs.
#include <cstring>

#include "api.h"
#include "threads.h"

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

// Which version of api.h this library was compiled with.
EXPORT int32_t fbf_abi() { return ABI; }

// The size in bytes of the i-th structure of api.h, in its order; 0 after the last.
EXPORT size_t fbf_structure_size(int index) {
    const size_t sizes[] = {sizeof(Layer),   sizeof(Chain),           sizeof(Images),       sizeof(Loss), sizeof(Parameter), sizeof(Update),
                            sizeof(Weights), sizeof(WideConvolution), sizeof(BatchNorm), sizeof(MaxPool), sizeof(ChannelsLast), sizeof(Kernels)};
    const int count = sizeof(sizes) / sizeof(*sizes);
    return index < 0 || index >= count ? 0 : sizes[index];
}

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

// Let the kernels run on the threads of an OpenMP that is in the process already.
EXPORT void fbf_use_openmp(void* parallel, void* thread_number) {
    OpenMp functions;
    functions.parallel = reinterpret_cast<decltype(functions.parallel)>(parallel);
    functions.thread_number = reinterpret_cast<decltype(functions.thread_number)>(thread_number);
    use_openmp(functions);
}
