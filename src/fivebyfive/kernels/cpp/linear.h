// Linear layers on blocks of images, one image a lane: a matrix product whose right side lies
// [features][LANES], so nothing needs transposing on the way forward or back.
#pragma once
#include <utility>

#include "simd.h"
#include "tile.h"

namespace {

constexpr int PAIR = 2;  // blocks taken together: a weight loaded once serves 2 · LANES images
constexpr int LINEAR_ROWS = ACCUMULATORS / PAIR;

// Long sums are taken in parts of this many terms: it keeps the rounding error of 2000 terms near
// that of 256, for a percent of the time.
constexpr int TERMS = 256;

template <int ROWS, int BLOCKS>
void linear_tile(const float* panel, int taps, const float* in, ptrdiff_t in_block, const float* bias,
                 float* out, ptrdiff_t out_block) {
    for (int first = 0; first < taps; first += TERMS) {
        Vec total[ROWS][BLOCKS];
        zero(total);
        int left = min(TERMS, taps - first);
        do {
            Vec x[BLOCKS];
            // Weights and inputs both stream past the L1 cache; asking early is worth 10 % on the
            // ConvNet's wide layer.
            __builtin_prefetch(panel + 24 * ROWS);
            for (int b = 0; b < BLOCKS; ++b) __builtin_prefetch(in + b * in_block + 16 * LANES);
            for (int b = 0; b < BLOCKS; ++b) x[b] = load(in + b * in_block);
            for (int r = 0; r < ROWS; ++r) {
                const Vec one = splat(panel[r]);
                for (int b = 0; b < BLOCKS; ++b) total[r][b] += one * x[b];
            }
            in += LANES, panel += ROWS;
        } while (--left);
        for (int r = 0; r < ROWS; ++r)
            for (int b = 0; b < BLOCKS; ++b) {
                float* sum = out + r * LANES + b * out_block;
                const Vec before = first > 0 ? load(sum) : splat(bias ? bias[r] : 0.0f);
                store(sum, before + total[r][b]);
            }
    }
}

// ROWS × 2 vectors of the weight gradient: over all images, the gradient of ROWS outputs (a lane
// an image) × 2 · LANES inputs of that image (`inputs`, [images][2 · LANES]).
template <int ROWS>
void outer_tile(const float* grad, ptrdiff_t grad_block, const float* inputs, int blocks, Vec* out) {
    Vec total[ROWS][2];
    zero(total);
    int b = 0;
    do {
        // The next block lies far from this one; the processor wouldn't guess it.
        for (int r = 0; r < ROWS; ++r) __builtin_prefetch(grad + grad_block + r * LANES);
        for (int lane = 0; lane < LANES; ++lane, inputs += 2 * LANES) {
            const Vec low = load(inputs), high = load(inputs + LANES);
            for (int r = 0; r < ROWS; ++r) {
                const Vec one = splat(grad[r * LANES + lane]);
                total[r][0] += one * low;
                total[r][1] += one * high;
            }
        }
        grad += grad_block;
    } while (++b < blocks);
    for (int r = 0; r < ROWS; ++r) out[2 * r] = total[r][0], out[2 * r + 1] = total[r][1];
}

using LinearTile = void (*)(const float*, int, const float*, ptrdiff_t, const float*, float*, ptrdiff_t);
using OuterTile = void (*)(const float*, ptrdiff_t, const float*, int, Vec*);
using LinearNumbers = std::make_integer_sequence<int, LINEAR_ROWS>;

template <int... i>
LinearTile find_linear(int rows, int blocks, std::integer_sequence<int, i...>) {
    static constexpr LinearTile single[] = {linear_tile<i + 1, 1>...};
    static constexpr LinearTile paired[] = {linear_tile<i + 1, PAIR>...};
    return (blocks == 1 ? single : paired)[rows - 1];
}
template <int... i>
OuterTile find_outer(int rows, std::integer_sequence<int, i...>) {
    static constexpr OuterTile table[] = {outer_tile<i + 1>...};
    return table[rows - 1];
}

// out [outputs] = weights [outputs, inputs] · in [inputs] (+ bias), for one or two blocks.
inline void linear(const float* panels, int outputs, int inputs, int tile, const float* in,
                   ptrdiff_t in_block, const float* bias, int blocks, float* out,
                   ptrdiff_t out_block) {
    for (int o = 0; o < outputs; o += tile) {
        const int rows = min(tile, outputs - o);
        find_linear(rows, blocks, LinearNumbers{})(
            panels + static_cast<ptrdiff_t>(o) * inputs, inputs, in, in_block,
            bias ? bias + o : nullptr, out + o * LANES, out_block);
    }
}

// Columns [first, first + 2 · LANES) of the weight gradient [outputs, inputs], from all blocks.
// `scratch` holds 2 · LANES floats an image.
inline void linear_weight_grad(const float* in, ptrdiff_t in_block, const float* grad,
                               ptrdiff_t grad_block, int blocks, int outputs, int inputs, int first,
                               float* scratch, float* out) {
    const int columns = min(2 * LANES, inputs - first);
    for (int b = 0; b < blocks; ++b) {
        const float* source = in + b * in_block + static_cast<ptrdiff_t>(first) * LANES;
        float* images = scratch + static_cast<ptrdiff_t>(b) * LANES * 2 * LANES;
        for (int half = 0; half < 2; ++half) {
            Vec square[LANES];
            for (int i = 0; i < LANES; ++i) {
                const int feature = half * LANES + i;
                square[i] = feature < columns ? load(source + feature * LANES) : Vec{};
            }
            transpose(square);
            for (int i = 0; i < LANES; ++i) store(images + (2 * i + half) * LANES, square[i]);
        }
    }
    const int tile = even_part(outputs, LINEAR_ROWS);
    for (int o = 0; o < outputs; o += tile) {
        const int rows = min(tile, outputs - o);
        Vec result[2 * LINEAR_ROWS];
        find_outer(rows, LinearNumbers{})(grad + o * LANES, grad_block, scratch, blocks, result);
        for (int r = 0; r < rows; ++r)
            memcpy(out + static_cast<ptrdiff_t>(o + r) * inputs + first, &result[2 * r],
                   static_cast<size_t>(columns) * sizeof(float));
    }
}

}  // namespace
