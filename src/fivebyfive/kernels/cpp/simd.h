// Vectors of LANES floats by the compiler's vector extensions: the same source becomes AVX-512,
// AVX2, SSE or NEON. LANES and ACCUMULATORS come from the instruction set being compiled for.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

// For functions of vectors so wide that a call would pass them through memory.
#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace {

// How many sums a kernel may keep in registers, leaving room for its operands.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ACCUMULATORS = 24;
#else
constexpr int ACCUMULATORS = 12;
#endif

typedef float Vec __attribute__((vector_size(LANES * 4)));
typedef int32_t VecInt __attribute__((vector_size(LANES * 4)));
typedef float LooseVec __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

inline Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
inline Vec splat(float x) { return x - Vec{}; }

// a > b ? a : b and a < b ? a : b: b where one of them is NaN. Compilers miss the
// instructions.
#if defined(__AVX512F__)
inline Vec larger(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec smaller(Vec a, Vec b) { return _mm512_min_ps(a, b); }
#elif defined(__AVX2__)
inline Vec larger(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec smaller(Vec a, Vec b) { return _mm256_min_ps(a, b); }
#elif defined(__SSE2__)
inline Vec larger(Vec a, Vec b) { return _mm_max_ps(a, b); }
inline Vec smaller(Vec a, Vec b) { return _mm_min_ps(a, b); }
#else
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
#endif

// Lane i of the result is picked from the 2·LANES lanes of (a, b) by the i-th index.
template <int... index>
inline Vec shuffle(Vec a, Vec b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, index...);
#else
    return __builtin_shuffle(a, b, VecInt{index...});
#endif
}

// Every lane plus the lane whose number differs in one bit; after all bits, every lane is the sum.
template <int bit>
inline Vec add_across(Vec v) {
#if LANES == 16
    return v + shuffle<0 ^ bit, 1 ^ bit, 2 ^ bit, 3 ^ bit, 4 ^ bit, 5 ^ bit, 6 ^ bit, 7 ^ bit, 8 ^ bit,
                       9 ^ bit, 10 ^ bit, 11 ^ bit, 12 ^ bit, 13 ^ bit, 14 ^ bit, 15 ^ bit>(v, v);
#elif LANES == 8
    return v + shuffle<0 ^ bit, 1 ^ bit, 2 ^ bit, 3 ^ bit, 4 ^ bit, 5 ^ bit, 6 ^ bit, 7 ^ bit>(v, v);
#else
    return v + shuffle<0 ^ bit, 1 ^ bit, 2 ^ bit, 3 ^ bit>(v, v);
#endif
}

inline float sum(Vec v) {
#if LANES >= 16
    v = add_across<8>(v);
#endif
#if LANES >= 8
    v = add_across<4>(v);
#endif
    return add_across<1>(add_across<2>(v))[0];
}

// Transpose a square of LANES × LANES floats held in registers. Each round swaps the off-diagonal
// quarters of ever larger squares: 1×1, 2×2, 4×4, ...
template <int width, bool upper>
inline Vec interleave(Vec a, Vec b);

#define PICK(i) (((i) & width) == 0 ? (i) + (upper ? width : 0) : (i) + LANES - (upper ? 0 : width))
template <int width, bool upper>
inline Vec interleave(Vec a, Vec b) {
#if LANES == 16
    return shuffle<PICK(0), PICK(1), PICK(2), PICK(3), PICK(4), PICK(5), PICK(6), PICK(7), PICK(8),
                   PICK(9), PICK(10), PICK(11), PICK(12), PICK(13), PICK(14), PICK(15)>(a, b);
#elif LANES == 8
    return shuffle<PICK(0), PICK(1), PICK(2), PICK(3), PICK(4), PICK(5), PICK(6), PICK(7)>(a, b);
#else
    return shuffle<PICK(0), PICK(1), PICK(2), PICK(3)>(a, b);
#endif
}
#undef PICK

template <int width>
inline void transpose_round(Vec* rows) {
    for (int i = 0; i < LANES; ++i) {
        if (i & width) continue;
        const Vec a = rows[i], b = rows[i + width];
        rows[i] = interleave<width, false>(a, b);
        rows[i + width] = interleave<width, true>(a, b);
    }
}

inline void transpose(Vec* rows) {
    transpose_round<1>(rows);
    transpose_round<2>(rows);
#if LANES >= 8
    transpose_round<4>(rows);
#endif
#if LANES >= 16
    transpose_round<8>(rows);
#endif
}

}  // namespace
