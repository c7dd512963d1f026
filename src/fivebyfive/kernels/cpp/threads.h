// A small pool of threads. OpenMP would bring a second runtime beside the one PyTorch carries.
#pragma once

// Run task(context, index, worker) for every index in [0, tasks) on up to `threads` threads.
// Workers count from 0, and no two tasks run at once on the same worker. Which worker takes which
// task is open, so a task's result must not depend on it.
void parallel_for(int threads, int tasks, void (*task)(void*, int index, int worker), void* context);
