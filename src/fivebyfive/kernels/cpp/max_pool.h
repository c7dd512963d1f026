// Max-pooling of images with their channels last. Which of a window's values was taken is a byte for
// each result; going back, each input looks at the windows that it lies in.
#pragma once
#include <cmath>

#include "api.h"
#include "parallel.h"
#include "vectors.h"

namespace {

typedef uint8_t Bytes __attribute__((vector_size(LANES)));

inline VecInt load_bytes(const uint8_t* p, int count) {
    Bytes bytes = {};
    if (count == LANES) memcpy(&bytes, p, LANES);
    else memcpy(&bytes, p, static_cast<size_t>(count));
    return __builtin_convertvector(bytes, VecInt);
}
inline void store_bytes(uint8_t* p, VecInt v, int count) {
    const Bytes bytes = __builtin_convertvector(v, Bytes);
    if (count == LANES) memcpy(p, &bytes, LANES);
    else memcpy(p, &bytes, static_cast<size_t>(count));
}

// The part of a window that lies in the image: of `kernel` values from `first` on, in [0, size).
struct Span {
    int begin, end;
    Span(int first, int kernel, int size) : begin(max(0, -first)), end(min(kernel, size - first)) {}
};

void max_pool_forward(const MaxPool& p, const float* x, float* y, uint8_t* taken, int threads) {
    parallel(threads, p.images * p.out_height, [&](int task, int) {
        const int top = task % p.out_height * p.stride - p.padding;
        const float* image = x + static_cast<ptrdiff_t>(task / p.out_height) * p.height * p.width * p.channels;
        const Span rows(top, p.kernel, p.height);
        ptrdiff_t at = static_cast<ptrdiff_t>(task) * p.out_width * p.channels;
        for (int j = 0; j < p.out_width; ++j, at += p.channels) {
            const int left = j * p.stride - p.padding;
            const Span columns(left, p.kernel, p.width);
            each_channels(p.channels, [&](auto c) {
                constexpr int N = vectors(decltype(c){});
                Vec best[N];
                VecInt where[N];
                for (int k = 0; k < N; ++k) {
                    best[k] = splat(-INFINITY);
                    where[k] = VecInt{} + (rows.begin * p.kernel + columns.begin);
                }
                for (int r = rows.begin; r < rows.end; ++r)
                    for (int s = columns.begin; s < columns.end; ++s) {
                        const ptrdiff_t pixel = static_cast<ptrdiff_t>(top + r) * p.width + left + s;
                        for (int k = 0; k < N; ++k) {
                            const Vec v = c.get(image + pixel * p.channels + c.first, k);
                            const VecInt better = (v > best[k]) | (v != v);
                            best[k] = better ? v : best[k];
                            where[k] = better ? VecInt{} + (r * p.kernel + s) : where[k];
                        }
                    }
                for (int k = 0; k < N; ++k) {
                    c.put(y + at + c.first, k, best[k]);
                    store_bytes(taken + at + c.first + k * LANES, where[k], c.count);
                }
            });
        }
    });
}

void max_pool_back(const MaxPool& p, const float* grad, const uint8_t* taken, float* x_grad, int threads) {
    parallel(threads, p.images * p.height, [&](int task, int) {
        const int y = task % p.height + p.padding;
        const ptrdiff_t image = static_cast<ptrdiff_t>(task / p.height) * p.out_height * p.out_width;
        const int top = max(0, (y - p.kernel + p.stride) / p.stride), bottom = min(p.out_height - 1, y / p.stride);
        float* to = x_grad + static_cast<ptrdiff_t>(task) * p.width * p.channels;
        for (int j = 0; j < p.width; ++j, to += p.channels) {
            const int x = j + p.padding;
            const int left = max(0, (x - p.kernel + p.stride) / p.stride), right = min(p.out_width - 1, x / p.stride);
            each_channels(p.channels, [&](auto c) {
                constexpr int N = vectors(decltype(c){});
                Vec sum[N];
                for (int k = 0; k < N; ++k) sum[k] = Vec{};
                for (int r = top; r <= bottom; ++r)
                    for (int s = left; s <= right; ++s) {
                        const ptrdiff_t at = (image + static_cast<ptrdiff_t>(r) * p.out_width + s) * p.channels + c.first;
                        const int tap = (y - r * p.stride) * p.kernel + x - s * p.stride;
                        for (int k = 0; k < N; ++k) {
                            const VecInt from = load_bytes(taken + at + k * LANES, c.count);
                            sum[k] += from == VecInt{} + tap ? c.get(grad + at, k) : Vec{};
                        }
                    }
                for (int k = 0; k < N; ++k) c.put(to + c.first, k, sum[k]);
            });
        }
    });
}

}  // namespace
