// One step of gradient descent or Adam on a stretch of parameters, as PyTorch computes them.
#pragma once
#include <cmath>

#include "api.h"

namespace {

inline void sgd(float* value, const float* grad, int64_t size, const Update& u) {
    const float rate = static_cast<float>(u.rate);
    for (int64_t i = 0; i < size; ++i) value[i] -= rate * grad[i];
}

inline void adam(float* __restrict value, const float* __restrict grad, float* __restrict first_moment,
                 float* __restrict second_moment, int64_t size, const Update& u) {
    // 1 - 0.999 in float would be off by 1e-5, and Adam turns that into different losses.
    const float keep = static_cast<float>(u.beta2), add = static_cast<float>(1 - u.beta2);
    const float toward = static_cast<float>(1 - u.beta1), rate = static_cast<float>(u.rate);
    const float root = static_cast<float>(1 / u.root), eps = static_cast<float>(u.eps);
    for (int64_t i = 0; i < size; ++i) {
        const float g = grad[i];
        const float m = first_moment[i] + toward * (g - first_moment[i]);
        const float s = keep * second_moment[i] + add * g * g;
        first_moment[i] = m;
        second_moment[i] = s;
        value[i] -= rate * m / (__builtin_sqrtf(s) * root + eps);
    }
}

}  // namespace
