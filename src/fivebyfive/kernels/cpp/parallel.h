// Loops over tasks by several threads, and where a workspace begins.
#pragma once
#include <cstdint>

#include "threads.h"

namespace {

template <typename Body>
void parallel(int threads, int tasks, Body body) {
    parallel_for(threads, tasks,
                 [](void* context, int index, int worker) { (*static_cast<Body*>(context))(index, worker); },
                 &body);
}

// The caller's workspace may start anywhere; blocks begin on cache lines.
inline float* aligned(float* workspace) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(workspace) + 63) & ~uintptr_t{63});
}

}  // namespace
