// The processor's peak in fused multiply-adds of float32, by as many threads as asked for:
// independent chains in registers, so that neither memory nor latency holds them up.
//
//   c++ -O3 -march=native -pthread fma_peak.cpp -o fma_peak && ./fma_peak THREADS
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif
#if defined(__x86_64__)
#define IN_REGISTER "+v"
#else
#define IN_REGISTER "+w"
#endif
typedef float Vector __attribute__((vector_size(4 * kWidth)));

constexpr int kChains = 12;  // more than latency × units, fewer than registers
constexpr long kRounds = 20'000'000;

static void work(float *out) {
  Vector sums[kChains], factor, term;
  for (int i = 0; i < kWidth; i++) factor[i] = 0.999f, term[i] = 0.001f;
#pragma GCC unroll 16
  for (int chain = 0; chain < kChains; chain++) sums[chain] = term;
  for (long round = 0; round < kRounds; round++) {
#pragma GCC unroll 16
    for (int chain = 0; chain < kChains; chain++) {
      sums[chain] = sums[chain] * factor + term;
      asm volatile("" : IN_REGISTER(sums[chain]));  // keeps the compiler from folding the rounds
    }
  }
#pragma GCC unroll 16
  for (int chain = 0; chain < kChains; chain++) *out += sums[chain][0];
}

int main(int count, char **words) {
  const int threads = count > 1 ? std::atoi(words[1]) : 1;
  double best = 0;
  for (int repeat = 0; repeat < 5; repeat++) {
    std::vector<float> outs(64 * threads);
    std::vector<std::thread> crew;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < threads; i++) crew.emplace_back(work, &outs[64 * i]);
    for (auto &thread : crew) thread.join();
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    const double flops = 2.0 * kWidth * kChains * kRounds * threads;
    if (flops / spent.count() > best) best = flops / spent.count();
  }
  std::printf("%.1f\n", best / 1e9);
}
