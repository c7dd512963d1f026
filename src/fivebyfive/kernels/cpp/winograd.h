// A convolution of stride 1 by minimal filtering in two dimensions, on images with their channels
// last. The image is cut into tiles of OUT × OUT outputs; at each of the 36 points a tile's product
// is one of matrices, [tiles, in channels] · [in channels, out channels].
//
// A worker takes some tiles through all three steps, so that what lies between them stays in its
// cache. How a sum is ordered depends on sizes alone, so results don't depend on the threads.
#pragma once
#include "api.h"
#include "minimal.h"
#include "product.h"
#include "parallel.h"
#include "vectors.h"

namespace {

constexpr int SKEW = LANES;                     // keeps equal places of many rows off one cache set

inline int whole_vectors(int n) { return ceil_div(n, LANES) * LANES; }

// The tiles of a batch, and where their values lie in it.
struct Tiles {
    int out, pad, images, height, width;  // of the images that are read or written; `pad` around them
    int down, across;

    Tiles(int out, int pad, int images, int height, int width, int out_height, int out_width)
        : out(out), pad(pad), images(images), height(height), width(width),
          down(ceil_div(out_height, out)), across(ceil_div(out_width, out)) {}

    int count() const { return images * down * across; }

    // Where a tile's `side` × `side` pixels lie in images of `channels`; null beyond the borders.
    void find(int tile, int side, int channels, const float* values, const float** at) const {
        const int image = tile / (down * across), place = tile % (down * across);
        const int top = place / across * out - pad, left = place % across * out - pad;
        for (int i = 0; i < side; ++i)
            for (int j = 0; j < side; ++j) {
                const int y = top + i, x = left + j;
                const bool inside = y >= 0 && y < height && x >= 0 && x < width;
                const ptrdiff_t pixel = (static_cast<ptrdiff_t>(image) * height + y) * width + x;
                at[i * side + j] = inside ? values + pixel * channels : nullptr;
            }
    }
};

// Pixels of a tile, from `channel` on; where `mask` isn't null, 0 where it isn't positive.
template <int SIDE>
ALWAYS_INLINE void load_tile(const float* const* at, ptrdiff_t mask, int channel, int count, Vec* v) {
    for (int i = 0; i < SIDE * SIDE; ++i) {
        v[i] = at[i] ? load_some(at[i] + channel, count) : Vec{};
        if (mask && at[i]) v[i] = where_positive(v[i], load_some(at[i] + mask + channel, count));
    }
}

// How the 36 matrices of some tiles lie: `rows` of `channels`, the matrices a skew apart.
struct Matrices {
    int channels;
    ptrdiff_t row, point;

    Matrices(int rows, int channels)
        : channels(channels), row(whole_vectors(channels) + SKEW), point(rows * row + SKEW) {}
    ptrdiff_t floats() const { return POINTS * point; }
};

// The inputs of one tile at all points.
inline void input_tile(const Tiles& tiles, int tile, const float* x, const float* mask, float* v, const Matrices& to) {
    const float* at[POINTS];
    tiles.find(tile, TILE, to.channels, x, at);
    for (int channel = 0; channel < to.channels; channel += LANES) {
        Vec d[POINTS], half[POINTS];
        load_tile<TILE>(at, mask ? mask - x : 0, channel, min(LANES, to.channels - channel), d);
        for (int i = 0; i < TILE; ++i) input_points<1>(d + i * TILE, half + i * TILE);
        for (int j = 0; j < TILE; ++j) input_points<TILE>(half + j, d + j);
        for (int p = 0; p < POINTS; ++p) store(v + p * to.point + channel, d[p]);
    }
}

// The outputs of one tile from its products at all points.
template <int OUT>
void output_tile(const Tiles& tiles, int tile, const float* m, const Matrices& from, const float* bias, bool relu,
                 float* y) {
    const float* at[OUT * OUT];
    tiles.find(tile, OUT, from.channels, y, at);
    for (int channel = 0; channel < from.channels; channel += LANES) {
        const int count = min(LANES, from.channels - channel);
        Vec d[POINTS], half[TILE * OUT], out[OUT * OUT];
        for (int p = 0; p < POINTS; ++p) d[p] = load(m + p * from.point + channel);
        for (int j = 0; j < TILE; ++j) {
            Vec column[OUT];
            Vec in[TILE];
            for (int i = 0; i < TILE; ++i) in[i] = d[i * TILE + j];
            outputs<OUT, 1>(in, column);
            for (int i = 0; i < OUT; ++i) half[i * TILE + j] = column[i];
        }
        for (int i = 0; i < OUT; ++i) outputs<OUT, 1>(half + i * TILE, out + i * OUT);
        const Vec b = bias ? load_some(bias + channel, count) : Vec{};
        for (int i = 0; i < OUT * OUT; ++i) {
            if (!at[i]) continue;
            Vec v = out[i] + b;
            if (relu) v = v < Vec{} ? Vec{} : v;
            store_some(y + (at[i] - y) + channel, v, count);
        }
    }
}

// The gradients at one tile's outputs, at all points; adds them up for the bias.
template <int OUT>
void output_grad_tile(const Tiles& tiles, int tile, const float* grad, const float* mask, float* m, const Matrices& to,
                      float* sums) {
    const float* at[OUT * OUT];
    tiles.find(tile, OUT, to.channels, grad, at);
    for (int channel = 0; channel < to.channels; channel += LANES) {
        Vec y[OUT * OUT], half[OUT * TILE], d[POINTS];
        load_tile<OUT>(at, mask ? mask - grad : 0, channel, min(LANES, to.channels - channel), y);
        if (sums) {
            Vec sum = y[0];
            for (int i = 1; i < OUT * OUT; ++i) sum += y[i];
            store(sums + channel, load(sums + channel) + sum);
        }
        for (int i = 0; i < OUT; ++i) output_grad_points<OUT, 1>(y + i * OUT, half + i * TILE);
        for (int j = 0; j < TILE; ++j) {
            Vec column[OUT], points[TILE];
            for (int i = 0; i < OUT; ++i) column[i] = half[i * TILE + j];
            output_grad_points<OUT, 1>(column, points);
            for (int i = 0; i < TILE; ++i) d[i * TILE + j] = points[i];
        }
        for (int p = 0; p < POINTS; ++p) store(m + p * to.point + channel, d[p]);
    }
}

// Filters [out, in] at all points, as panels [point][panel][in][PANEL] of out channels.
struct Panels {
    int in, out, count;
    ptrdiff_t panel, point;

    Panels(int in, int out)
        : in(in), out(out), count(ceil_div(out, PANEL)), panel(static_cast<ptrdiff_t>(in) * PANEL),
          point(count * panel + SKEW) {}
    ptrdiff_t floats() const { return POINTS * point; }
    int vectors(int number) const { return ceil_div(min(PANEL, out - number * PANEL), LANES); }
};

// A square of LANES × LANES weights of one tap, its out channels in the lanes: one vector for each in
// channel, or back. Weights with their in channels side by side are transposed in registers.
inline void load_weights(const Weights& w, const float* from, int outs, int ins, Vec* square, int step) {
    if (w.in == 1 && outs == LANES && ins == LANES) {
        Vec rows[LANES];
        for (int out = 0; out < LANES; ++out) rows[out] = load(from + out * w.out);
        transpose(rows);
        for (int in = 0; in < LANES; ++in) square[in * step] = rows[in];
    } else if (w.out == 1) {
        for (int in = 0; in < ins; ++in) square[in * step] = load_some(from + in * w.in, outs);
    } else {
        for (int in = 0; in < ins; ++in) {
            Vec v = {};
            for (int out = 0; out < outs; ++out) v[out] = from[out * w.out + in * w.in];
            square[in * step] = v;
        }
    }
}
inline void store_weights(const Weights& w, float* to, int outs, int ins, const Vec* square, int step) {
    if (w.in == 1 && outs == LANES && ins == LANES) {
        Vec rows[LANES];
        for (int in = 0; in < LANES; ++in) rows[in] = square[in * step];
        transpose(rows);
        for (int out = 0; out < LANES; ++out) store(to + out * w.out, rows[out]);
    } else {
        for (int in = 0; in < ins; ++in)
            for (int out = 0; out < outs; ++out) to[out * w.out + in * w.in] = square[in * step][out];
    }
}

// The filters of some out channels at all points, into their panels.
template <int TAPS>
void filters_to_points(const Weights& w, const Panels& panels, int out, float* u) {
    const int outs = min(LANES, panels.out - out);
    Vec g[LANES][TAPS * TAPS];
    for (int first = 0; first < panels.in; first += LANES) {
        const int ins = min(LANES, panels.in - first);
        for (int i = 0; i < TAPS; ++i)
            for (int j = 0; j < TAPS; ++j)
                load_weights(w, w.values + out * w.out + first * w.in + i * w.row + j * w.column, outs, ins,
                             &g[0][i * TAPS + j], TAPS * TAPS);
        for (int in = 0; in < ins; ++in) {
            Vec half[TILE * TAPS], d[POINTS];
            for (int j = 0; j < TAPS; ++j) filter_points<TAPS, TAPS>(g[in] + j, half + j);
            for (int i = 0; i < TILE; ++i) filter_points<TAPS, 1>(half + i * TAPS, d + i * TILE);
            float* to = u + out / PANEL * panels.panel + static_cast<ptrdiff_t>(first + in) * PANEL + out % PANEL;
            for (int p = 0; p < POINTS; ++p) store(to + p * panels.point, d[p]);
        }
    }
}

// Back from the gradients at all points [point][in][out] to those of some out channels' filters.
template <int TAPS>
void filter_grads_from_points(const float* u, const Matrices& from, int out, int all_ins, const Weights& w) {
    const int outs = min(LANES, from.channels - out);
    Vec g[LANES][TAPS * TAPS];
    for (int first = 0; first < all_ins; first += LANES) {
        const int ins = min(LANES, all_ins - first);
        for (int in = 0; in < ins; ++in) {
            Vec d[POINTS], half[TILE * TAPS];
            for (int p = 0; p < POINTS; ++p) d[p] = load(u + p * from.point + (first + in) * from.row + out);
            for (int i = 0; i < TILE; ++i) filter_grads<TAPS, 1>(d + i * TILE, half + i * TAPS);
            for (int j = 0; j < TAPS; ++j) filter_grads<TAPS, TAPS>(half + j, g[in] + j);
        }
        for (int i = 0; i < TAPS; ++i)
            for (int j = 0; j < TAPS; ++j)
                store_weights(w, w.values + out * w.out + first * w.in + i * w.row + j * w.column, outs, ins,
                              &g[0][i * TAPS + j], TAPS * TAPS);
    }
}

// Tiles that a worker takes at once: what lies between the steps should fit its cache, and the
// filters should be read for many tiles at a time.
constexpr int LEAST_TILES = 48, MOST_TILES = 192;
constexpr ptrdiff_t CACHE_FLOATS = 160 * 1024;

inline int tiles_at_once(int in, int out) {
    const ptrdiff_t fit = CACHE_FLOATS / (POINTS * static_cast<ptrdiff_t>(in + out));
    const int tiles = static_cast<int>(fit < LEAST_TILES ? LEAST_TILES : fit > MOST_TILES ? MOST_TILES : fit);
    return tiles / PRODUCT_ROWS * PRODUCT_ROWS;
}

struct Winograd {
    const WideConvolution& c;
    Tiles inputs, results;  // the same tiles, in the images that are read and in those written
    Panels panels;
    int block, blocks;
    Matrices in, out;

    explicit Winograd(const WideConvolution& c)
        : c(c), inputs(TILE + 1 - c.kernel, c.padding, c.images, c.height, c.width, out_height(c), out_width(c)),
          results(inputs.out, 0, c.images, out_height(c), out_width(c), out_height(c), out_width(c)),
          panels(c.in_channels, c.out_channels), block(tiles_at_once(c.in_channels, c.out_channels)),
          blocks(ceil_div(inputs.count(), block)), in(block, c.in_channels), out(block, c.out_channels) {}

    static int out_height(const WideConvolution& c) { return c.height + 2 * c.padding - c.kernel + 1; }
    static int out_width(const WideConvolution& c) { return c.width + 2 * c.padding - c.kernel + 1; }

    int tiles_of(int number) const { return min(block, inputs.count() - number * block); }
    size_t forward_floats(int threads) const {
        return static_cast<size_t>(panels.floats() + threads * (in.floats() + out.floats()));
    }
};

template <int OUT>
void convolve(const WideConvolution& c, const float* x, const float* mask, const float* bias, bool relu, float* y,
              float* workspace, int threads) {
    constexpr int TAPS = TILE + 1 - OUT;
    const Winograd w(c);
    float* u = workspace;
    parallel(threads, ceil_div(c.out_channels, LANES), [&](int task, int) {
        filters_to_points<TAPS>(c.weights, w.panels, task * LANES, u);
    });
    parallel(threads, w.blocks, [&](int number, int worker) {
        const int count = w.tiles_of(number), first = number * w.block;
        float* v = workspace + w.panels.floats() + worker * (w.in.floats() + w.out.floats());
        float* m = v + w.in.floats();
        for (int t = 0; t < count; ++t) input_tile(w.inputs, first + t, x, mask, v + t * w.in.row, w.in);
        for (int p = 0; p < POINTS; ++p)
            for (int panel = 0; panel < w.panels.count; ++panel)
                product({v + p * w.in.point, w.in.row, 1, u + p * w.panels.point + panel * w.panels.panel, PANEL,
                         c.in_channels, m + p * w.out.point + panel * PANEL, w.out.row, false},
                        count, w.panels.vectors(panel), u + p * w.panels.point + (panel + 1) * w.panels.panel);
        for (int t = 0; t < count; ++t)
            output_tile<OUT>(w.results, first + t, m + t * w.out.row, w.out, bias, relu, y);
    });
}

// The gradients of weights and bias. The tiles are gone through in blocks one after the other, and
// each block is shared out twice: by tiles to bring it to the points, by products to add it up.
constexpr int LEAST_GRADIENT_TILES = 192, MOST_GRADIENT_TILES = 3072, SHARE = 8;
constexpr ptrdiff_t GRADIENT_FLOATS = 1024 * 1024;

inline int gradient_tiles(int in, int out) {
    const ptrdiff_t fit = GRADIENT_FLOATS / (POINTS * static_cast<ptrdiff_t>(in + out)) / SHARE * SHARE;
    return static_cast<int>(fit < LEAST_GRADIENT_TILES ? LEAST_GRADIENT_TILES : fit > MOST_GRADIENT_TILES ? MOST_GRADIENT_TILES : fit);
}

struct WinogradGradient {
    Winograd w;
    int block, shares;
    Matrices in, out, sums;

    explicit WinogradGradient(const WideConvolution& c)
        : w(c), block(min(gradient_tiles(c.in_channels, c.out_channels), w.inputs.count())), shares(ceil_div(block, SHARE)), in(block, c.in_channels),
          out(block, c.out_channels), sums(c.in_channels, c.out_channels) {}
    ptrdiff_t bias_floats() const { return static_cast<ptrdiff_t>(shares) * whole_vectors(w.c.out_channels); }
    size_t floats() const { return static_cast<size_t>(in.floats() + out.floats() + sums.floats() + bias_floats()); }
};

template <int OUT>
void weight_grad(const WideConvolution& c, const float* x, const float* grad, const float* mask, float* bias_grad,
                 float* workspace, int threads) {
    constexpr int TAPS = TILE + 1 - OUT;
    const WinogradGradient g(c);
    const int all = g.w.inputs.count(), wide = whole_vectors(c.out_channels);
    float *v = workspace, *m = v + g.in.floats(), *sums = m + g.out.floats(), *bias = sums + g.sums.floats();
    memset(bias, 0, static_cast<size_t>(g.bias_floats()) * sizeof(float));
    for (int first = 0; first < all; first += g.block) {
        const int count = min(g.block, all - first);
        parallel(threads, ceil_div(count, SHARE), [&](int share, int) {
            for (int t = share * SHARE; t < min(count, (share + 1) * SHARE); ++t) {
                input_tile(g.w.inputs, first + t, x, nullptr, v + t * g.in.row, g.in);
                output_grad_tile<OUT>(g.w.results, first + t, grad, mask, m + t * g.out.row, g.out,
                                      bias_grad ? bias + share * wide : nullptr);
            }
        });
        const int parts = ceil_div(c.in_channels, 4 * PRODUCT_ROWS), part = even_part(c.in_channels, 4 * PRODUCT_ROWS);
        parallel(threads, POINTS * parts, [&](int task, int) {
            const int p = task / parts, from = task % parts * part, rows = min(part, c.in_channels - from);
            for (int panel = 0; panel < g.w.panels.count; ++panel)
                product({v + p * g.in.point + from, 1, g.in.row, m + p * g.out.point + panel * PANEL, g.out.row, count,
                         sums + p * g.sums.point + from * g.sums.row + panel * PANEL, g.sums.row, first > 0},
                        rows, g.w.panels.vectors(panel), nullptr);
        });
    }
    parallel(threads, ceil_div(c.out_channels, LANES), [&](int task, int) {
        filter_grads_from_points<TAPS>(sums, g.sums, task * LANES, c.in_channels, c.weights);
    });
    for (int k = 0; bias_grad && k < c.out_channels; ++k) {
        bias_grad[k] = 0.0f;
        for (int share = 0; share < g.shares; ++share) bias_grad[k] += bias[share * wide + k];
    }
}

}  // namespace
