// How much of a matrix or an image a kernel keeps in registers, and weights packed to suit.
//
// A tile of `rows` outputs × `columns` positions takes rows + columns loads for rows · columns
// multiply-adds a step, so it should be large; what is left over at the edges should not be small.
#pragma once
#include "simd.h"

namespace {

constexpr int MOST_ROWS = 12, MOST_COLUMNS = 8;

struct Tile {
    int rows, columns;
};

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int ceil_div(int a, int b) { return (a + b - 1) / b; }

// Split `count` into as few parts of at most `limit` as will do, as even as can be.
inline int even_part(int count, int limit) { return ceil_div(count, ceil_div(count, limit)); }

// A tile's sums at the start. Zeroed one by one, and added to by loops that run at least once (do,
// while), they stay in registers from here to the end; by `= {}` the array would lie in memory.
template <int ROWS, int COLUMNS>
inline void zero(Vec (&sums)[ROWS][COLUMNS]) {
    for (int r = 0; r < ROWS; ++r)
        for (int j = 0; j < COLUMNS; ++j) sums[r][j] = Vec{};
}

// Hides from the compiler where p points. It would see that a step loads again most of what the one
// before it did, and shift that from register to register instead, at a greater cost.
inline void hide(const float*& p) { asm("" : "+r"(p)); }

// Weights [rows, taps] as panels: for `tile` rows at a time, every tap's weights side by side.
inline void pack_panel(const float* weight, int taps, int first, int rows, float* panel) {
    const float* source = weight + static_cast<ptrdiff_t>(first) * taps;
    const auto pack = [=](int count) __attribute__((always_inline)) {
        float* target = panel;
        for (int tap = 0; tap < taps; ++tap)
            for (int r = 0; r < count; ++r) *target++ = source[static_cast<ptrdiff_t>(r) * taps + tap];
    };
    if (rows == MOST_ROWS) pack(MOST_ROWS);  // nearly always; a known count is faster
    else pack(rows);
}

// The same for going back: weights [outputs, inputs, kernel²] as panels whose rows are inputs and
// whose taps are outputs × the kernel turned by half a turn.
inline void pack_panel_back(const float* weight, int outputs, int inputs, int area, int first,
                            int rows, float* panel) {
    if (area == 1) {
        const auto pack = [=](int count) __attribute__((always_inline)) {
            for (int o = 0; o < outputs; ++o)
                memcpy(panel + static_cast<ptrdiff_t>(o) * count,
                       weight + static_cast<ptrdiff_t>(o) * inputs + first,
                       static_cast<size_t>(count) * sizeof(float));
        };
        if (rows == MOST_ROWS) pack(MOST_ROWS);
        else pack(rows);
        return;
    }
    for (int o = 0; o < outputs; ++o)
        for (int tap = area - 1; tap >= 0; --tap)
            for (int r = 0; r < rows; ++r)
                *panel++ = weight[(static_cast<ptrdiff_t>(o) * inputs + first + r) * area + tap];
}

}  // namespace
