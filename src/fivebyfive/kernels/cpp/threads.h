// Threads: those of the OpenMP that PyTorch carries, or, where it can't be found, a small pool.
//
// Two sets of threads get in each other's way: after every loop, those of OpenMP go on waiting for
// the next at full speed, on the processors that the others would run on.
#pragma once

// Two functions of OpenMP's runtime, which every program compiled for it calls.
struct OpenMp {
    void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags);  // GOMP_parallel
    int (*thread_number)();                                                      // omp_get_thread_num
};

void use_openmp(const OpenMp&);

// Run task(context, index, worker) for every index in [0, tasks) on up to `threads` threads.
// Workers count from 0, and no two tasks run at once on the same worker. Which worker takes which
// task is open, so a task's result must not depend on it.
void parallel_for(int threads, int tasks, void (*task)(void*, int index, int worker), void* context);
