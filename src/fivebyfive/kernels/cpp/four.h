// Four vectors side by side. A formula's steps wait for each other; worked out for one vector at a
// time, the processor would spend most of the time waiting.
#pragma once
#include "simd.h"

namespace {

struct Four {
    Vec part[4];

    Four() = default;
    explicit Four(Vec x) { for (Vec& p : part) p = x; }
    Four(float x) : Four(splat(x)) {}
};

template <typename Body>
inline Four each(Body body) {
    Four result;
    for (int i = 0; i < 4; ++i) result.part[i] = body(i);
    return result;
}

inline Four operator+(const Four& a, const Four& b) { return each([&](int i) { return a.part[i] + b.part[i]; }); }
inline Four operator-(const Four& a, const Four& b) { return each([&](int i) { return a.part[i] - b.part[i]; }); }
inline Four operator*(const Four& a, const Four& b) { return each([&](int i) { return a.part[i] * b.part[i]; }); }
inline Four operator/(const Four& a, const Four& b) { return each([&](int i) { return a.part[i] / b.part[i]; }); }
inline Four larger(const Four& a, const Four& b) { return each([&](int i) { return larger(a.part[i], b.part[i]); }); }
inline Four smaller(const Four& a, const Four& b) { return each([&](int i) { return smaller(a.part[i], b.part[i]); }); }

// x · 2^n, where n's lowest bits are that integer.
inline Vec scale(Vec x, Vec n) { return (Vec)((VecInt)x + ((VecInt)n << 23)); }
inline Four scale(const Four& x, const Four& n) { return each([&](int i) { return scale(x.part[i], n.part[i]); }); }

// a where x is below the limit, b elsewhere.
inline Vec below(Vec x, float limit, Vec a, Vec b) { return x < splat(limit) ? a : b; }
inline Four below(const Four& x, float limit, const Four& a, const Four& b) {
    return each([&](int i) { return below(x.part[i], limit, a.part[i], b.part[i]); });
}

// Every value by the function's result for it; the function takes a Vec as well as a Four.
template <typename Function>
inline void apply(float* values, int vectors, Function function) {
    int i = 0;
    for (; i + 4 <= vectors; i += 4, values += 4 * LANES) {
        const Four y = function(each([&](int k) { return load(values + k * LANES); }));
        for (int k = 0; k < 4; ++k) store(values + k * LANES, y.part[k]);
    }
    for (; i < vectors; ++i, values += LANES) store(values, function(load(values)));
}

}  // namespace
