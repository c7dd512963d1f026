// Products of matrices, a tile of the result at a time in registers.
#pragma once
#include <utility>

#include "tile.h"

namespace {

constexpr int PRODUCT_ROWS = ACCUMULATORS / 2, PRODUCT_COLUMNS = 2;
constexpr int PANEL = PRODUCT_COLUMNS * LANES;  // columns that lie side by side

// result [ROWS, COLUMNS · LANES] (+)= a · b over `steps`; a's element (row, step) lies at
// row · a_row + step · a_step, b's row of a step at step · b_step, the result's rows result_row apart.
struct Operands {
    const float* a;
    ptrdiff_t a_row, a_step;
    const float* b;
    ptrdiff_t b_step;
    int steps;
    float* result;
    ptrdiff_t result_row;
    bool add;
};

template <int ROWS, int COLUMNS>
void product_tile(const Operands& o, const float* next, ptrdiff_t next_step) {
    Vec sums[ROWS][COLUMNS];
    zero(sums);
    const float *a = o.a, *b = o.b;
    int step = 0;
    do {
        __builtin_prefetch(next, 0, 2);
        next += next_step;
        Vec columns[COLUMNS];
        for (int j = 0; j < COLUMNS; ++j) columns[j] = load(b + j * LANES);
        for (int r = 0; r < ROWS; ++r) {
            const Vec value = splat(a[r * o.a_row]);
            for (int j = 0; j < COLUMNS; ++j) sums[r][j] += value * columns[j];
        }
        a += o.a_step;
        b += o.b_step;
    } while (++step < o.steps);
    for (int r = 0; r < ROWS; ++r)
        for (int j = 0; j < COLUMNS; ++j) {
            float* at = o.result + r * o.result_row + j * LANES;
            store(at, o.add ? load(at) + sums[r][j] : sums[r][j]);
        }
}

using ProductTile = void (*)(const Operands&, const float*, ptrdiff_t);

template <int... i>
ProductTile find_product(int rows, int columns, std::integer_sequence<int, i...>) {
    static constexpr ProductTile one[] = {product_tile<i + 1, 1>...};
    static constexpr ProductTile two[] = {product_tile<i + 1, 2>...};
    return (columns == 1 ? one : two)[rows - 1];
}

// So many terms are added up before their sum is added to the others': that keeps rounding errors
// from growing with the number of terms.
constexpr int SUMMED_APART = 64;

// All `rows` of the result, for one or two vectors of columns. Meanwhile `next` is fetched, a panel of
// as many steps (null: nothing): the b of the product after this one.
inline void product(const Operands& all, int rows, int columns, const float* next) {
    const int tile = even_part(rows, PRODUCT_ROWS), tiles = ceil_div(rows, tile);
    for (int i = 0; i < tiles; ++i) {
        const int first = i * tile, part = min(tile, rows - first);
        const ProductTile compute = find_product(part, columns, std::make_integer_sequence<int, PRODUCT_ROWS>{});
        const float* ahead = next ? next + static_cast<ptrdiff_t>(i) * (all.steps / tiles) * PANEL : all.b;
        const ptrdiff_t ahead_step = next ? PANEL / tiles : 0;
        Operands o = all;
        o.a += first * all.a_row;
        o.result += first * all.result_row;
        for (int step = 0; step < all.steps; step += SUMMED_APART) {
            o.steps = min(SUMMED_APART, all.steps - step);
            compute(o, ahead, ahead_step);
            o.a += SUMMED_APART * o.a_step;
            o.b += SUMMED_APART * o.b_step;
            o.add = true;
            ahead += SUMMED_APART * ahead_step;
        }
    }
}

}  // namespace
