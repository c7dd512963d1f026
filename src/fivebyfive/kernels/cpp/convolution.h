// Convolutions of stride 1 on blocks of images, one image a lane.
//
// An image block is [channels][height][width + 2 pad][LANES]: the zero columns are really there,
// the zero rows are not (the kernel is clipped instead), and the same code serves forward (input
// and kernel) and backward (output gradient and turned kernel).
#pragma once
#include <utility>

#include "simd.h"
#include "tile.h"

namespace {

struct Convolution {
    int inputs, height, width, outputs, kernel, pad;
    Tile tile;

    int out_height() const { return height + 2 * pad - kernel + 1; }
    int out_width() const { return width + 2 * pad - kernel + 1; }
    int row_floats() const { return (width + 2 * pad) * LANES; }
    ptrdiff_t channel_floats() const { return static_cast<ptrdiff_t>(height) * row_floats(); }
    int taps() const { return inputs * kernel * kernel; }
};

// The kernel's rows and columns that meet the image from a given row and columns of the output.
struct Window {
    int top, bottom, left, right;
};

inline Window window(const Convolution& c, int row, int column, int columns) {
    return {max(0, c.pad - row), min(c.kernel, c.height + c.pad - row),
            max(0, c.pad - column - columns + 1), min(c.kernel, c.width + c.pad - column)};
}

template <int ROWS, int COLUMNS>
void convolution_tile(const Convolution& c, const Window& w, const float* image, const float* panel,
                      const float* bias, float* out, ptrdiff_t out_channel) {
    Vec total[ROWS][COLUMNS];
    zero(total);
    int channel = 0;
    do {
        int y = w.top;
        do {
            const float* pixel = image + channel * c.channel_floats() + y * c.row_floats();
            const float* weight = panel + ((channel * c.kernel + y) * c.kernel + w.left) * ROWS;
            int steps = w.right - w.left;
            do {
                Vec x[COLUMNS];
                for (int j = 0; j < COLUMNS; ++j) x[j] = load(pixel + j * LANES);
                for (int r = 0; r < ROWS; ++r) {
                    const Vec one = splat(weight[r]);
                    for (int j = 0; j < COLUMNS; ++j) total[r][j] += one * x[j];
                }
                pixel += LANES, weight += ROWS;
                hide(pixel);
            } while (--steps);
        } while (++y < w.bottom);
    } while (++channel < c.inputs);
    for (int r = 0; r < ROWS; ++r)
        for (int j = 0; j < COLUMNS; ++j)
            store(out + r * out_channel + j * LANES, total[r][j] + (bias ? bias[r] : 0.0f));
}

// The sums over all positions of output gradient × input, for ROWS outputs and COLUMNS taps.
template <int ROWS, int COLUMNS>
void gradient_tile(const float* grad, ptrdiff_t grad_channel, int grad_row, const float* image,
                   int image_row, int height, int width, float* out, int out_row) {
    Vec total[ROWS][COLUMNS];
    zero(total);
    int y = 0;
    do {
        const float* g = grad + y * static_cast<ptrdiff_t>(grad_row);
        const float* pixel = image + y * static_cast<ptrdiff_t>(image_row);
        int x = width;
        do {
            Vec one[ROWS];
            for (int r = 0; r < ROWS; ++r) one[r] = load(g + r * grad_channel);
            for (int j = 0; j < COLUMNS; ++j) {
                const Vec value = load(pixel + j * LANES);
                for (int r = 0; r < ROWS; ++r) total[r][j] += one[r] * value;
            }
            g += LANES, pixel += LANES;
        } while (--x);
    } while (++y < height);
    for (int r = 0; r < ROWS; ++r)
        for (int j = 0; j < COLUMNS; ++j)
            out[r * static_cast<ptrdiff_t>(out_row) + j] += sum(total[r][j]);
}

using ConvolutionTile = void (*)(const Convolution&, const Window&, const float*, const float*,
                                 const float*, float*, ptrdiff_t);
using GradientTile = void (*)(const float*, ptrdiff_t, int, const float*, int, int, int, float*, int);

// Every tile that fits the registers, so that leftovers at the edges have their own.
template <int ROWS, int COLUMNS>
constexpr ConvolutionTile convolution_entry() {
    if constexpr (ROWS * COLUMNS <= ACCUMULATORS) return convolution_tile<ROWS, COLUMNS>;
    else return nullptr;
}
template <int ROWS, int COLUMNS>
constexpr GradientTile gradient_entry() {
    if constexpr (ROWS * COLUMNS <= ACCUMULATORS + 1) return gradient_tile<ROWS, COLUMNS>;
    else return nullptr;
}

template <int... i>
ConvolutionTile find_convolution(Tile tile, std::integer_sequence<int, i...>) {
    static constexpr ConvolutionTile table[] = {
        convolution_entry<i / MOST_COLUMNS + 1, i % MOST_COLUMNS + 1>()...};
    return table[(tile.rows - 1) * MOST_COLUMNS + tile.columns - 1];
}
template <int... i>
GradientTile find_gradient(Tile tile, std::integer_sequence<int, i...>) {
    static constexpr GradientTile table[] = {
        gradient_entry<i / MOST_COLUMNS + 1, i % MOST_COLUMNS + 1>()...};
    return table[(tile.rows - 1) * MOST_COLUMNS + tile.columns - 1];
}
using TileNumbers = std::make_integer_sequence<int, 8 * MOST_COLUMNS>;  // up to 8 rows

// About how many cycles a row of output takes with tiles of this size: two multiply-adds or loads a
// cycle, and what starting a step, a row of the kernel and a tile costs (fitted on Zen 5).
inline float row_cycles(const Convolution& c, int rows, int columns) {
    float cycles = 0;
    for (int x = 0; x < c.out_width(); x += columns) {
        const int wide = min(columns, c.out_width() - x);
        const Window w = window(c, c.pad, x, wide);
        for (int r = 0; r < c.outputs; r += rows) {
            const int high = min(rows, c.outputs - r);
            const float step = 2.0f + static_cast<float>(max(high * wide, high + wide)) / 2;
            const float kernel_row = 6.0f + step * static_cast<float>(w.right - w.left);
            cycles += 60.0f + kernel_row * static_cast<float>(c.inputs * (w.bottom - w.top));
        }
    }
    return cycles;
}

inline Tile choose_tile(const Convolution& c) {
    Tile best{1, 1};
    float fewest = row_cycles(c, 1, 1);
    for (int columns = 1; columns <= MOST_COLUMNS; ++columns) {
        for (int limit = 1; limit <= 8 && limit * columns <= ACCUMULATORS; ++limit) {
            const int rows = even_part(c.outputs, limit);
            const float cycles = row_cycles(c, rows, columns);
            if (cycles < fewest) best = {rows, columns}, fewest = cycles;
        }
    }
    return best;
}

// One row of all output channels. `image` is the block, `out` the row in the first channel.
inline void convolution_row(const Convolution& c, const float* image, const float* panels,
                            const float* bias, int row, float* out, ptrdiff_t out_channel) {
    const float* const first_row = image + (row - c.pad) * static_cast<ptrdiff_t>(c.row_floats());
    for (int r = 0; r < c.outputs; r += c.tile.rows) {
        const int rows = min(c.tile.rows, c.outputs - r);
        for (int x = 0; x < c.out_width(); x += c.tile.columns) {
            const int columns = min(c.tile.columns, c.out_width() - x);
            const Window w = window(c, row, x, columns);
            find_convolution({rows, columns}, TileNumbers{})(
                c, w, first_row + (x + w.left) * LANES, panels + r * static_cast<ptrdiff_t>(c.taps()),
                bias ? bias + r : nullptr, out + r * out_channel + x * LANES, out_channel);
        }
    }
}

// Add one block's weight gradient to out [outputs, inputs, kernel, kernel]. The output gradient
// `grad` has rows of grad_row floats.
inline void convolution_weight_grad(const Convolution& c, const float* image, const float* grad,
                                    int grad_row, float* out) {
    const int columns = even_part(c.kernel, 6);
    const int rows = even_part(c.outputs, min(8, (ACCUMULATORS + 1) / columns));
    const ptrdiff_t grad_channel = static_cast<ptrdiff_t>(c.out_height()) * grad_row;
    for (int o = 0; o < c.outputs; o += rows) {
        const int n = min(rows, c.outputs - o);
        for (int i = 0; i < c.inputs; ++i) {
            for (int y = 0; y < c.kernel; ++y) {
                const int top = max(0, c.pad - y);
                const int bottom = min(c.out_height(), c.height + c.pad - y);
                if (bottom <= top) continue;  // this row of the kernel never meets the image
                const float* g = grad + o * grad_channel + top * static_cast<ptrdiff_t>(grad_row);
                const float* pixel = image + i * c.channel_floats() +
                                     (top + y - c.pad) * static_cast<ptrdiff_t>(c.row_floats());
                for (int x = 0; x < c.kernel; x += columns) {
                    const int taps = min(columns, c.kernel - x);
                    float* target = out + ((static_cast<ptrdiff_t>(o) * c.inputs + i) * c.kernel + y)
                                              * c.kernel + x;
                    find_gradient({n, taps}, TileNumbers{})(
                        g, grad_channel, grad_row, pixel + x * LANES, c.row_floats(), bottom - top,
                        c.out_width(), target, c.taps());
                }
            }
        }
    }
}

}  // namespace
