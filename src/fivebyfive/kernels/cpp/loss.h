// Mean cross-entropy of a block's class scores, and its gradient.
#pragma once
#include <cmath>

#include "activations.h"
#include "simd.h"

namespace {

// Over the images of a group; the seconds are of gathering them.
struct Sums {
    double loss, correct, gather_seconds;
};

// Add the first `images` lanes of scores [classes][LANES] to the sums; labels[lane] counts from 0.
// Unless `grad` [classes][LANES] is null it gets the gradient for a mean over `count` images.
inline void cross_entropy(const float* scores, int classes, const int64_t* labels, int images,
                          int64_t count, float* grad, Sums& sums) {
    Vec top = load(scores);
    VecInt guess = VecInt{};
    for (int c = 1; c < classes; ++c) {
        const Vec score = load(scores + c * LANES);
        const VecInt better = (score > top) | ((score != score) & (top == top));
        top = better ? score : top;
        guess = better ? c - VecInt{} : guess;
    }
    Vec total = Vec{};
    for (int c = 0; c < classes; ++c) {
        const Vec e = exp(load(scores + c * LANES) - top);
        if (grad) store(grad + c * LANES, e);
        total += e;
    }
    for (int lane = 0; lane < images; ++lane) {
        const float score = scores[labels[lane] * LANES + lane];
        sums.loss += std::log(static_cast<double>(total[lane])) +
                      (static_cast<double>(top[lane]) - static_cast<double>(score));
        sums.correct += guess[lane] == labels[lane];
    }
    if (!grad) return;
    Vec scale;
    for (int lane = 0; lane < LANES; ++lane)
        scale[lane] = lane < images ? 1.0f / static_cast<float>(count) : 0.0f;
    const Vec share = scale / total;
    for (int c = 0; c < classes; ++c) store(grad + c * LANES, load(grad + c * LANES) * share);
    for (int lane = 0; lane < images; ++lane) grad[labels[lane] * LANES + lane] -= scale[lane];
}

}  // namespace
