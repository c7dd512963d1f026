// Images into lanes and back: one image's values lie together outside, one lane each inside.
#pragma once
#include "api.h"
#include "simd.h"
#include "tile.h"

namespace {

// Where a block's images come from: LANES values in a row of one of them, or a single one.
struct Floats {
    const float* image[LANES];

    Vec row(int lane, ptrdiff_t at) const { return load(image[lane] + at); }
    float one(int lane, ptrdiff_t at) const { return image[lane][at]; }
};

struct Bytes {
    const uint8_t* image[LANES];
    const float* table;

    Vec row(int lane, ptrdiff_t at) const {
        const uint8_t* bytes = image[lane] + at;
        float values[LANES];
        for (int i = 0; i < LANES; ++i) values[i] = table[bytes[i]];
        return load(values);
    }
    float one(int lane, ptrdiff_t at) const { return table[image[lane][at]]; }
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
        for (; x + LANES <= width; x += LANES, at += LANES) {
            Vec square[LANES];
            for (int lane = 0; lane < LANES; ++lane) square[lane] = from.row(lane, at);
            transpose(square);
            for (int i = 0; i < LANES; ++i, block += LANES) store(block, square[i]);
        }
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
