// The activations and their derivatives, within two or three units in the last place. NaN comes
// through everywhere: a diverging run must show it, as it does in PyTorch.
#pragma once
#include "api.h"
#include "four.h"

namespace {

// V is a Vec or Four of them.

// e^x for x in [-87, 88]; outside, the value at the border. x = n ln 2 + r, a polynomial for e^r (off
// by 3e-9 at most), and n added to the exponent bits.
template <typename V>
ALWAYS_INLINE V exp(V x) {
    x = smaller(V(splat(88.0f)), larger(V(splat(-87.0f)), x));  // NaN stays
    const float round = 12582912.0f;  // 1.5 · 2^23: adding it leaves the nearest integer below
    const V shifted = x * 1.44269504088896341f + round;
    const V n = shifted - round;
    const V r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    V p = r * 1.3820633758e-3f + 8.3686737344e-3f;
    p = p * r + 4.1668266058e-2f;
    p = p * r + 1.6666521132e-1f;
    p = p * r + 4.9999994040e-1f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return scale(p, shifted);
}

template <typename V>
ALWAYS_INLINE V sigmoid(V x) { return 1.0f / (1.0f + exp(0.0f - x)); }

// Near 0 the quotient would cancel, so there an odd polynomial (Cephes' tanhf) takes over.
template <typename V>
ALWAYS_INLINE V tanh(V x) {
    const V square = x * x;
    V p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square - 5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square - 3.33332819422e-1f;
    const V small = p * square * x + x;
    const V large = 1.0f - 2.0f / (1.0f + exp(2.0f * x));
    return below(square, 0.390625f, small, large);
}

template <typename V>
inline V relu(V x) { return larger(V(Vec{}), x); }

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
    switch (kind) {
        case SIGMOID: return apply(values, vectors, [](auto x) __attribute__((always_inline)) { return sigmoid(x); });
        case TANH: return apply(values, vectors, [](auto x) __attribute__((always_inline)) { return tanh(x); });
        case RELU: return apply(values, vectors, [](auto x) __attribute__((always_inline)) { return relu(x); });
        default: return;
    }
}

}  // namespace
