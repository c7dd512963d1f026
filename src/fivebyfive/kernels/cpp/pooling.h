// Pooling on blocks of images (see convolution.h for the layout): kernels 1 to 3, without padding.
#pragma once
#include "activations.h"
#include "simd.h"

namespace {

struct Pool {
    int32_t kind;
    int kernel, stride;
};

// One pooled row of one channel, from KERNEL rows of `row_floats` each.
template <Pooling kind, int KERNEL>
inline void pool_windows(const float* in, int row_floats, int stride, int columns, float* out) {
    const float share = 1.0f / (KERNEL * KERNEL);
    for (int x = 0; x < columns; ++x, in += stride * LANES, out += LANES) {
        Vec result = load(in);
        for (int i = 1; i < KERNEL * KERNEL; ++i) {
            const Vec value = load(in + i / KERNEL * row_floats + i % KERNEL * LANES);
            if (kind == AVERAGE) result += value;
            // As PyTorch: the first of equal values stays, and NaN wins.
            else result = ((value > result) | (value != value)) ? value : result;
        }
        store(out, kind == AVERAGE ? result * share : result);
    }
}

template <Pooling kind>
inline void pool_kind(const Pool& pool, const float* in, int row_floats, int columns, float* out) {
    switch (pool.kernel) {
        case 1: return pool_windows<kind, 1>(in, row_floats, pool.stride, columns, out);
        case 2: return pool_windows<kind, 2>(in, row_floats, pool.stride, columns, out);
        default: return pool_windows<kind, 3>(in, row_floats, pool.stride, columns, out);
    }
}

inline void pool_row(const Pool& pool, const float* in, int row_floats, int columns, float* out) {
    if (pool.kind == AVERAGE) pool_kind<AVERAGE>(pool, in, row_floats, columns, out);
    else pool_kind<MAXIMUM>(pool, in, row_floats, columns, out);
}

// Bring one window's gradient g back through pooling and activation to `out`; y is what the
// activation gave. Where windows overlap, their gradients are added.
template <Activation activation, Pooling pooling, int KERNEL, bool adding>
inline void unpool_window(const float* y, int y_row, Vec g, float* out, int out_row) {
    Vec best = load(y);
    VecInt winner = VecInt{};
    if (pooling == MAXIMUM)
        for (int i = 1; i < KERNEL * KERNEL; ++i) {
            const Vec value = load(y + i / KERNEL * y_row + i % KERNEL * LANES);
            const VecInt better = (value > best) | (value != value);
            best = better ? value : best;
            winner = better ? i - VecInt{} : winner;
        }
    else g *= 1.0f / (KERNEL * KERNEL);
    for (int i = 0; i < KERNEL * KERNEL; ++i) {
        float* target = out + i / KERNEL * out_row + i % KERNEL * LANES;
        Vec part = before<activation>(g, load(y + i / KERNEL * y_row + i % KERNEL * LANES));
        if (pooling == MAXIMUM) part = winner == i ? part : Vec{};
        store(target, adding ? load(target) + part : part);
    }
}

inline void clear(float* p, ptrdiff_t vectors) {
    memset(p, 0, static_cast<size_t>(vectors) * LANES * sizeof(float));
}

// One channel's gradient g after the pooling, the activation's output y, and where the gradient
// before both goes, all by their first value and the floats from row to row.
struct Unpooling {
    const float *y, *g;
    float* out;
    int y_row, out_row;
    int rows, columns;  // after the pooling
    int height, width;  // before it
};

template <Activation activation, Pooling pooling, int KERNEL, bool adding>
inline void unpool_windows(const Unpooling& u, int stride) {
    const float* g = u.g;
    for (int i = 0; i < u.rows; ++i) {
        const float* y = u.y + static_cast<ptrdiff_t>(i) * stride * u.y_row;
        float* out = u.out + static_cast<ptrdiff_t>(i) * stride * u.out_row;
        for (int j = 0; j < u.columns; ++j, g += LANES, y += stride * LANES, out += stride * LANES) {
            // The activations may have left the L2 cache since; ask for the next windows' early.
            for (int k = 0; k < KERNEL * KERNEL; ++k)
                __builtin_prefetch(y + (k / KERNEL + stride) * u.y_row + k % KERNEL * LANES);
            unpool_window<activation, pooling, KERNEL, adding>(y, u.y_row, load(g), out, u.out_row);
        }
    }
}

template <Activation activation, Pooling pooling, int KERNEL>
inline void unpool_kernel(const Unpooling& u, int stride) {
    const bool whole = KERNEL == stride && u.rows * stride == u.height && u.columns * stride == u.width;
    if (!whole)  // some places get nothing, or a sum
        for (int i = 0; i < u.height; ++i) clear(u.out + i * u.out_row, u.width);
    if (KERNEL > stride) unpool_windows<activation, pooling, KERNEL, true>(u, stride);
    else unpool_windows<activation, pooling, KERNEL, false>(u, stride);
}

template <Activation activation, Pooling pooling>
inline void unpool_kind(const Unpooling& u, const Pool& pool) {
    switch (pool.kernel) {
        case 1: return unpool_kernel<activation, pooling, 1>(u, pool.stride);
        case 2: return unpool_kernel<activation, pooling, 2>(u, pool.stride);
        default: return unpool_kernel<activation, pooling, 3>(u, pool.stride);
    }
}

template <Activation activation>
inline void unpool(const Unpooling& u, const Pool& pool) {
    if (pool.kind == AVERAGE) return unpool_kind<activation, AVERAGE>(u, pool);
    if (pool.kind == MAXIMUM) return unpool_kind<activation, MAXIMUM>(u, pool);
    const float* g = u.g;
    for (int i = 0; i < u.height; ++i)
        for (int j = 0; j < u.width * LANES; j += LANES, g += LANES)
            store(u.out + i * u.out_row + j, before<activation>(load(g), load(u.y + i * u.y_row + j)));
}

}  // namespace
