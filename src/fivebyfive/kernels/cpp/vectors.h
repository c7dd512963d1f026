// Vectors of which only some lanes count, and the ReLU on the way back.
#pragma once
#include "tile.h"

namespace {

// The `count` (at most LANES) first values at p; 0 for the others.
inline Vec load_some(const float* p, int count) {
    if (count == LANES) return load(p);
    Vec v = {};
    memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
    return v;
}

inline void store_some(float* p, Vec v, int count) {
    if (count == LANES) store(p, v);
    else memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
}

// A gradient where the ReLU's output is positive (or no number); 0 elsewhere.
inline Vec where_positive(Vec gradient, Vec output) { return output <= Vec{} ? Vec{} : gradient; }

// N vectors side by side, the last of which may have fewer channels that count.
template <int N>
struct Channels {
    int first, count;  // `count` of the only vector where N is 1
    ptrdiff_t step;    // from pixel to pixel

    ALWAYS_INLINE Vec get(const float* p, int k) const { return N > 1 ? load(p + k * LANES) : load_some(p, count); }
    ALWAYS_INLINE void put(float* p, int k, Vec v) const {
        if (N > 1) store(p + k * LANES, v);
        else store_some(p, v, count);
    }
};

template <int N>
constexpr int vectors(const Channels<N>&) { return N; }

// Calls body(Channels) for all channels, several vectors at a time: pixels are read in one piece.
template <typename Body>
ALWAYS_INLINE void each_channels(int channels, Body body) {
    int first = 0;
    for (; first + 4 * LANES <= channels; first += 4 * LANES) body(Channels<4>{first, LANES, channels});
    for (; first + 2 * LANES <= channels; first += 2 * LANES) body(Channels<2>{first, LANES, channels});
    for (; first < channels; first += LANES) body(Channels<1>{first, min(LANES, channels - first), channels});
}

}  // namespace
