// Batch normalisation of images with their channels last, with the addition and the ReLU that
// follow it: one pass for the statistics and one for all the rest, forward and backward.
//
// Statistics are those of stretches of pixels, put together in double precision in their order, so
// that results don't depend on the threads, and a large mean takes no digits from the variance.
#pragma once
#include <cmath>

#include "api.h"
#include "parallel.h"
#include "vectors.h"

namespace {

constexpr int PIXELS = 256;  // of a stretch

inline int stretches(const BatchNorm& n) { return static_cast<int>((n.pixels + PIXELS - 1) / PIXELS); }
inline int pixels_of(const BatchNorm& n, int stretch) {
    const int64_t left = n.pixels - static_cast<int64_t>(stretch) * PIXELS;
    return left < PIXELS ? static_cast<int>(left) : PIXELS;
}
// Two partial sums for each channel and stretch.
inline size_t partial_floats(const BatchNorm& n) {
    return 2 * static_cast<size_t>(stretches(n)) * static_cast<size_t>(n.channels);
}

// A stretch's mean, and its squared distances from it added up, for some channels.
template <int N>
void stretch_statistics(const Channels<N>& c, const float* x, int pixels, float* mean, float* squares) {
    Vec sum[N], distances[N], middle[N];
    for (int k = 0; k < N; ++k) sum[k] = distances[k] = Vec{};
    for (int i = 0; i < pixels; ++i)
        for (int k = 0; k < N; ++k) sum[k] += c.get(x + i * c.step, k);
    for (int k = 0; k < N; ++k) middle[k] = sum[k] * (1.0f / static_cast<float>(pixels));
    for (int i = 0; i < pixels; ++i)
        for (int k = 0; k < N; ++k) {
            const Vec d = c.get(x + i * c.step, k) - middle[k];
            distances[k] += d * d;
        }
    for (int k = 0; k < N; ++k) {
        c.put(mean, k, middle[k]);
        c.put(squares, k, distances[k]);
    }
}

// The batch's mean and the inverse of its deviation; the running ones follow.
void batch_statistics(const BatchNorm& n, const float* x, float* partials, int threads) {
    const int channels = n.channels, count = stretches(n);
    parallel(threads, count, [&](int stretch, int) {
        float* to = partials + 2 * static_cast<ptrdiff_t>(stretch) * channels;
        const float* from = x + static_cast<ptrdiff_t>(stretch) * PIXELS * channels;
        each_channels(channels, [&](auto c) {
            stretch_statistics(c, from + c.first, pixels_of(n, stretch), to + c.first, to + channels + c.first);
        });
    });
    parallel(threads, ceil_div(channels, LANES), [&](int task, int) {
        for (int c = task * LANES; c < min(channels, (task + 1) * LANES); ++c) {
            double mean = 0.0, squares = 0.0, seen = 0.0;
            for (int stretch = 0; stretch < count; ++stretch) {
                const float* from = partials + 2 * static_cast<ptrdiff_t>(stretch) * channels + c;
                const double pixels = pixels_of(n, stretch), distance = from[0] - mean;
                squares += from[channels] + distance * distance * seen * pixels / (seen + pixels);
                seen += pixels;
                mean += distance * pixels / seen;
            }
            n.mean[c] = static_cast<float>(mean);
            n.inverse[c] = static_cast<float>(1.0 / std::sqrt(squares / seen + n.eps));
            if (!n.running_mean) continue;
            n.running_mean[c] += static_cast<float>(n.momentum * (mean - n.running_mean[c]));
            n.running_var[c] += static_cast<float>(n.momentum * (squares / (seen - 1.0) - n.running_var[c]));
        }
    });
}

// What takes a value to its normalised one: (x - mean) · scale + bias.
template <int N>
struct Affine {
    Vec mean[N], scale[N], bias[N];

    ALWAYS_INLINE Affine(const BatchNorm& n, const Channels<N>& c) {
        for (int k = 0; k < N; ++k) {
            mean[k] = c.get(n.mean + c.first, k);
            scale[k] = c.get(n.inverse + c.first, k);
            if (n.weight) scale[k] *= c.get(n.weight + c.first, k);
            bias[k] = n.bias ? c.get(n.bias + c.first, k) : Vec{};
        }
    }
};

// y = (x - mean) · inverse · weight + bias (+ other), negative values 0 where a ReLU follows.
void normalise(const BatchNorm& n, const float* x, const float* other, float* y, int threads) {
    parallel(threads, stretches(n), [&](int stretch, int) {
        each_channels(n.channels, [&](auto c) {
            const Affine affine(n, c);
            ptrdiff_t at = static_cast<ptrdiff_t>(stretch) * PIXELS * n.channels + c.first;
            for (int i = 0; i < pixels_of(n, stretch); ++i, at += c.step)
                for (int k = 0; k < vectors(c); ++k) {
                    Vec v = (c.get(x + at, k) - affine.mean[k]) * affine.scale[k] + affine.bias[k];
                    if (other) v += c.get(other + at, k);
                    c.put(y + at, k, n.relu ? (v < Vec{} ? Vec{} : v) : v);
                }
        });
    });
}

// The gradient before the ReLU, if there is one: 0 where its output (null: found anew) isn't positive.
template <int N>
ALWAYS_INLINE Vec before_relu(const BatchNorm& n, const Channels<N>& c, const Affine<N>& affine, int k, Vec distance,
                              const float* grad, const float* y) {
    const Vec g = c.get(grad, k);
    if (y) return where_positive(g, c.get(y, k));
    return n.relu ? where_positive(g, distance * affine.scale[k] + affine.bias[k]) : g;
}

// The gradients of all that went in; those of weight, bias and `other` may be null. `y` is what came
// out of the ReLU, if there is one; null: it is found anew.
void normalise_grad(const BatchNorm& n, const float* x, const float* grad, const float* y, float* x_grad,
                    float* other_grad, float* weight_grad, float* bias_grad, float* partials, int threads) {
    const int channels = n.channels, count = stretches(n);
    parallel(threads, count, [&](int stretch, int) {
        float* to = partials + 2 * static_cast<ptrdiff_t>(stretch) * channels;
        each_channels(channels, [&](auto c) {
            constexpr int N = vectors(decltype(c){});
            const Affine affine(n, c);
            Vec sum[N], products[N];
            for (int k = 0; k < N; ++k) sum[k] = products[k] = Vec{};
            ptrdiff_t at = static_cast<ptrdiff_t>(stretch) * PIXELS * channels + c.first;
            for (int i = 0; i < pixels_of(n, stretch); ++i, at += c.step)
                for (int k = 0; k < N; ++k) {
                    const Vec distance = c.get(x + at, k) - affine.mean[k];
                    const Vec g = before_relu(n, c, affine, k, distance, grad + at, y ? y + at : nullptr);
                    sum[k] += g;
                    products[k] += g * distance;
                }
            for (int k = 0; k < N; ++k) {
                c.put(to + c.first, k, sum[k]);
                c.put(to + channels + c.first, k, products[k]);
            }
        });
    });
    // The sums over all, in the first stretch's place.
    parallel(threads, ceil_div(channels, LANES), [&](int task, int) {
        for (int c = task * LANES; c < min(channels, (task + 1) * LANES); ++c) {
            double sum = 0.0, products = 0.0;
            for (int stretch = 0; stretch < count; ++stretch) {
                sum += partials[2 * static_cast<ptrdiff_t>(stretch) * channels + c];
                products += partials[(2 * static_cast<ptrdiff_t>(stretch) + 1) * channels + c];
            }
            if (bias_grad) bias_grad[c] = static_cast<float>(sum);
            if (weight_grad) weight_grad[c] = static_cast<float>(products * n.inverse[c]);
            const double pixels = static_cast<double>(n.pixels), inverse = n.inverse[c];
            partials[c] = static_cast<float>(sum / pixels);
            partials[channels + c] = static_cast<float>(products * inverse * inverse / pixels);
        }
    });
    parallel(threads, count, [&](int stretch, int) {
        each_channels(channels, [&](auto c) {
            constexpr int N = vectors(decltype(c){});
            const Affine affine(n, c);
            Vec sum[N], products[N];
            for (int k = 0; k < N; ++k) {
                sum[k] = c.get(partials + c.first, k);
                products[k] = c.get(partials + channels + c.first, k);
            }
            ptrdiff_t at = static_cast<ptrdiff_t>(stretch) * PIXELS * channels + c.first;
            for (int i = 0; i < pixels_of(n, stretch); ++i, at += c.step)
                for (int k = 0; k < N; ++k) {
                    const Vec distance = c.get(x + at, k) - affine.mean[k];
                    const Vec g = before_relu(n, c, affine, k, distance, grad + at, y ? y + at : nullptr);
                    if (other_grad) c.put(other_grad + at, k, g);
                    c.put(x_grad + at, k, affine.scale[k] * (g - sum[k] - distance * products[k]));
                }
        });
    });
}

}  // namespace
