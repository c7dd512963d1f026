// The activations and their derivatives, a vector at a time, within two or three units in the last
// place. NaN comes through everywhere: a diverging run must show it, as it does in PyTorch.
#pragma once
#include "api.h"
#include "simd.h"

namespace {

// e^x for x in [-87, 88]; outside, the value at the border. After Cephes' expf: x = n ln 2 + r,
// a polynomial for e^r, and n added to the exponent bits.
inline Vec exp(Vec x) {
    x = x < splat(-87.0f) ? splat(-87.0f) : x;  // comparisons are false for NaN, which stays
    x = x > splat(88.0f) ? splat(88.0f) : x;
    const float round = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer below
    const Vec shifted = x * 1.44269504088896341f + round;
    const Vec n = shifted - round;
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Vec p = splat(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (Vec)((VecInt)p + ((VecInt)shifted << 23));
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// Near 0 the quotient would cancel, so there an odd polynomial (Cephes' tanhf) takes over.
inline Vec tanh(Vec x) {
    const Vec square = x * x;
    Vec p = splat(-5.70498872745e-3f);
    p = p * square + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const Vec small = p * square * x + x;
    const Vec large = 1.0f - 2.0f / (1.0f + exp(2.0f * x));
    return square < splat(0.390625f) ? small : large;
}

inline Vec relu(Vec x) { return x < Vec{} ? Vec{} : x; }

// The gradient before the activation, from the one after it and the activation's own output y.
template <Activation kind>
inline Vec before(Vec grad, Vec y) {
    if (kind == SIGMOID) return grad * (y * (1.0f - y));
    if (kind == TANH) return grad * (1.0f - y * y);
    if (kind == RELU) return y <= Vec{} ? Vec{} : grad;  // as PyTorch, at NaN too
    return grad;
}

// Call body once, with the activation known at compile time.
template <Activation kind>
struct Known {
    static constexpr Activation value = kind;
};

template <typename Body>
inline void with_activation(int32_t kind, Body body) {
    switch (kind) {
        case SIGMOID: return body(Known<SIGMOID>{});
        case TANH: return body(Known<TANH>{});
        case RELU: return body(Known<RELU>{});
        default: return body(Known<NO_ACTIVATION>{});
    }
}

inline void activate(int32_t kind, float* values, int vectors) {
    float* const end = values + static_cast<ptrdiff_t>(vectors) * LANES;
    switch (kind) {
        case SIGMOID: for (float* p = values; p != end; p += LANES) store(p, sigmoid(load(p))); break;
        case TANH: for (float* p = values; p != end; p += LANES) store(p, tanh(load(p))); break;
        case RELU: for (float* p = values; p != end; p += LANES) store(p, relu(load(p))); break;
        default: break;
    }
}

}  // namespace
