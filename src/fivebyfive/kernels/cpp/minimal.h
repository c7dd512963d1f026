// Minimal filtering (Winograd; Lavin & Gray 2015) in one dimension: OUT outputs of a filter of
// TAPS = 7 - OUT taps from 6 inputs by 6 products instead of OUT · TAPS, and each step turned
// around for the gradients.
//
// Filter and inputs are taken for polynomials, evaluated at the points 0, 1, -1, 1/2, -2 and
// infinity, multiplied there, and interpolated. These points give a third of the rounding error of
// the usual 0, ±1, ±2 (after Barabasz et al. 2018). The inputs' step doesn't depend on the taps.
#pragma once
#include "simd.h"

namespace {

constexpr int TILE = 6, POINTS = TILE * TILE;

// In the order of the products; the sixth point is infinity, where only the highest power counts.
constexpr float POINT[TILE - 1] = {0.0f, 1.0f, -1.0f, 0.5f, -2.0f};
// What evaluating the filter divides by: the product of a point's distances to the others.
constexpr float DISTANCES[TILE - 1] = {1.0f, 3.0f, -3.0f, -0.9375f, 15.0f};

constexpr float power(float base, int exponent) { return exponent == 0 ? 1.0f : base * power(base, exponent - 1); }

// Each takes every `step`-th vector and leaves its results so, too.

template <int step>
ALWAYS_INLINE void input_points(const Vec* d, Vec* v) {
    const Vec d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    const Vec p = d3 + 1.5f * d2 - d1, q = d4 + 1.5f * d3 - d2, r = d3 - d1, s = d4 - d2;
    const Vec low = d[0] - d2 + s + 1.5f * r, high = d[5 * step] - d3 - r + 1.5f * s;
    v[0] = low;
    v[step] = q + p;
    v[2 * step] = q - p;
    v[3 * step] = s + 2.0f * r;
    v[4 * step] = s - 0.5f * r;
    v[5 * step] = high;
}

template <int OUT, int step>
ALWAYS_INLINE void outputs(const Vec* m, Vec* y) {
    const Vec m3 = m[3 * step], m4 = m[4 * step], m5 = m[5 * step];
    const Vec even = m[step] + m[2 * step], odd = m[step] - m[2 * step];
    y[0] = m[0] + even + m3 + m4;
    y[step] = odd + 0.5f * m3 - 2.0f * m4;
    if constexpr (OUT == 4) {
        y[2 * step] = even + 0.25f * m3 + 4.0f * m4;
        y[3 * step] = odd + 0.125f * m3 - 8.0f * m4;
    }
    y[(OUT - 1) * step] += m5;
}

template <int OUT, int step>
ALWAYS_INLINE void output_grad_points(const Vec* y, Vec* m) {
    Vec even = y[0], odd = y[step], half = y[0] + 0.5f * y[step], two = y[0] - 2.0f * y[step];
    const Vec first = y[0], last = y[(OUT - 1) * step];
    if constexpr (OUT == 4) {
        half += 0.25f * y[2 * step] + 0.125f * y[3 * step];
        two += 4.0f * y[2 * step] - 8.0f * y[3 * step];
        even += y[2 * step];
        odd += y[3 * step];
    }
    m[0] = first;
    m[step] = even + odd;
    m[2 * step] = even - odd;
    m[3 * step] = half;
    m[4 * step] = two;
    m[5 * step] = last;
}

template <int TAPS, int step>
ALWAYS_INLINE void filter_points(const Vec* g, Vec* u) {
    for (int j = 0; j < TILE - 1; ++j) {
        Vec sum = g[0] * (1.0f / DISTANCES[j]);
        for (int tap = 1; tap < TAPS; ++tap) sum += g[tap * step] * (power(POINT[j], tap) / DISTANCES[j]);
        u[j * step] = sum;
    }
    u[(TILE - 1) * step] = g[(TAPS - 1) * step];
}

template <int TAPS, int step>
ALWAYS_INLINE void filter_grads(const Vec* u, Vec* g) {
    Vec found[TAPS];
    for (int tap = 0; tap < TAPS; ++tap) {
        found[tap] = u[0] * (power(POINT[0], tap) / DISTANCES[0]);
        for (int j = 1; j < TILE - 1; ++j) found[tap] += u[j * step] * (power(POINT[j], tap) / DISTANCES[j]);
    }
    found[TAPS - 1] += u[(TILE - 1) * step];
    for (int tap = 0; tap < TAPS; ++tap) g[tap * step] = found[tap];
}

}  // namespace
