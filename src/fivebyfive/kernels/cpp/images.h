// Images into lanes and back: one image's values lie together outside, one lane each inside.
#pragma once
#include "api.h"
#include "simd.h"
#include "tile.h"

namespace {

// Where a block's images come from. `square` takes LANES values in a row of each to `block`.
struct Floats {
    const float* image[LANES];

    float one(int lane, ptrdiff_t at) const { return image[lane][at]; }
    void square(ptrdiff_t at, float* block) const {
        Vec rows[LANES];
        for (int lane = 0; lane < LANES; ++lane) rows[lane] = load(image[lane] + at);
        transpose(rows);
        for (int i = 0; i < LANES; ++i) store(block + i * LANES, rows[i]);
    }
};

struct Bytes {
    const uint8_t* image[LANES];
    const float* table;

    float one(int lane, ptrdiff_t at) const { return table[image[lane][at]]; }
    // Looked up one by one anyway, each value goes straight to its place.
    void square(ptrdiff_t at, float* block) const {
        for (int lane = 0; lane < LANES; ++lane)
            for (int i = 0; i < LANES; ++i) block[i * LANES + lane] = one(lane, at + i);
    }
};

// Images [rows, width] to the lanes of `block` [rows, width + 2 pad], the margins zeroed.
template <typename Source>
inline void fill_lanes(const Source& from, int rows, int width, int pad, float* block) {
    const size_t margin = static_cast<size_t>(pad) * LANES * sizeof(float);
    ptrdiff_t at = 0;
    for (int y = 0; y < rows; ++y) {
        memset(block, 0, margin);
        block += pad * LANES;
        int x = 0;
        for (; x + LANES <= width; x += LANES, at += LANES, block += LANES * LANES) from.square(at, block);
        for (; x < width; ++x, ++at)
            for (int lane = 0; lane < LANES; ++lane) *block++ = from.one(lane, at);
        memset(block, 0, margin);
        block += pad * LANES;
    }
}

// The first `images` lanes of a block of `values` to rows of `out`.
inline void empty_block(const float* block, int values, int images, float* out) {
    int v = 0;
    for (; v + LANES <= values; v += LANES) {
        Vec square[LANES];
        for (int i = 0; i < LANES; ++i) square[i] = load(block + (v + i) * LANES);
        transpose(square);
        for (int lane = 0; lane < images; ++lane)
            store(out + static_cast<ptrdiff_t>(lane) * values + v, square[lane]);
    }
    for (; v < values; ++v)
        for (int lane = 0; lane < images; ++lane)
            out[static_cast<ptrdiff_t>(lane) * values + v] = block[v * LANES + lane];
}

}  // namespace
