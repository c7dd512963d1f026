#include "threads.h"

#include <atomic>
#include <cstdint>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("yield")
#else
#define PAUSE() ((void)0)
#endif
#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace {

// While it lives, numbers too small for full precision (below 1.2e-38) count as 0 in this thread. With
// them a saturated network trains seven times slower, as the processor takes a detour for each.
class FlushSubnormals {
public:
#if defined(__SSE2__)
    FlushSubnormals() : mode_(_mm_getcsr()) { _mm_setcsr(mode_ | 0x8040); }
    ~FlushSubnormals() { _mm_setcsr((_mm_getcsr() & ~0x8040u) | (mode_ & 0x8040u)); }

private:
    unsigned mode_;
#elif defined(__aarch64__)
    FlushSubnormals() { __asm__ volatile("mrs %0, fpcr" : "=r"(mode_)); set(mode_ | uint64_t{1} << 24); }
    ~FlushSubnormals() { set(mode_); }

private:
    static void set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
    uint64_t mode_;
#else
    FlushSubnormals() {}
#endif
};

// Long enough to bridge the tenths of a millisecond Python needs between two steps (waking a parked
// thread costs 3 % of LeNet's speed), short enough that an idle pool costs nothing.
constexpr int SPINS = 20000;

struct Job {
    void (*task)(void*, int, int) = nullptr;
    void* context = nullptr;
    int tasks = 0;
};

class Pool {
public:
    void run(const Job& job, int threads) {
        resize(threads - 1);
        if (workers_.empty() || job.tasks == 1) {
            const FlushSubnormals flush;
            for (int i = 0; i < job.tasks; ++i) job.task(job.context, i, 0);
            return;
        }
        job_ = job;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        take_tasks(0);
        for (int spin = 0; busy_.load(std::memory_order_acquire) != 0; ++spin) {
            if (spin < SPINS) PAUSE();
            else std::this_thread::yield();
        }
    }

private:
    void take_tasks(int worker) {
        const FlushSubnormals flush;
        for (int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < job_.tasks;)
            job_.task(job_.context, i, worker);
    }

    void work(int worker, unsigned seen) {
        for (;;) {
            for (int spin = 0; spin < SPINS && round_.load(std::memory_order_acquire) == seen; ++spin)
                PAUSE();
            if (round_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
            }
            seen = round_.load(std::memory_order_acquire);
            if (stop_) return;
            take_tasks(worker);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    void resize(int count) {
        if (static_cast<int>(workers_.size()) == count) return;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            stop_ = true;
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        for (std::thread& worker : workers_) worker.join();
        workers_.clear();
        stop_ = false;
        const unsigned seen = round_.load();
        for (int i = 0; i < count; ++i) workers_.emplace_back([=] { work(i + 1, seen); });
    }

    std::vector<std::thread> workers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<unsigned> round_{0};
    std::atomic<int> next_{0}, busy_{0};
    bool stop_ = false;
    Job job_;
};

// Never destroyed: at exit, other threads may still be using it.
Pool* pool = nullptr;
std::mutex entry;  // one caller at a time; others wait their turn

// The threads of the OpenMP that PyTorch computes with, once they are known; see use_openmp().
OpenMp openmp = {};

// What a team of OpenMP's threads shares: each takes tasks until there are no more.
struct Team {
    const Job& job;
    std::atomic<int> next{0};

    static void work(void* team) {
        Team& self = *static_cast<Team*>(team);
        const FlushSubnormals flush;
        const int worker = openmp.thread_number();
        for (int i; (i = self.next.fetch_add(1, std::memory_order_relaxed)) < self.job.tasks;)
            self.job.task(self.job.context, i, worker);
    }
};

#if !defined(_WIN32)
// A forked child has none of its parent's threads; it leaves the parent's pool alone and makes its
// own when it needs one. Holding the entry over the fork keeps the mutex itself in order.
[[maybe_unused]] const int fork_handlers = pthread_atfork(
    [] { entry.lock(); }, [] { entry.unlock(); },
    [] { pool = nullptr; openmp = {}; entry.unlock(); });
#endif

}  // namespace

void use_openmp(const OpenMp& functions) { openmp = functions; }

void parallel_for(int threads, int tasks, void (*task)(void*, int, int), void* context) {
    const Job job{task, context, tasks};
    if (openmp.parallel != nullptr && threads > 1 && tasks > 1) {
        Team team{job};
        openmp.parallel(Team::work, &team, static_cast<unsigned>(threads), 0);
        return;
    }
    std::lock_guard<std::mutex> lock(entry);
    if (pool == nullptr) pool = new Pool;
    pool->run(job, threads);
}
