// What every phase of a call works with: the plan, the workspace, the threads, the packed weights.
#pragma once
#include "loss.h"
#include "parallel.h"
#include "plan.h"

namespace {

// Everything one call works with.
struct Run {
    const Plan& plan;
    float* workspace;
    int threads;

    float* block(int number) const { return workspace + plan.first_block + number * plan.block_floats; }
    float* partial(int group) const { return workspace + plan.partials + group * plan.partial_floats; }
    float* scratch(int worker) const { return workspace + plan.scratch + worker * plan.scratch_floats; }

    // Copied in and out: the workspace is of floats, and doubles can't be read from it in place.
    void put_sums(int group, const Sums& sums) const {
        memcpy(workspace + group * SUMS_FLOATS, &sums, sizeof(Sums));
    }
    Sums sums_of(int group) const {
        Sums sums;
        memcpy(&sums, workspace + group * SUMS_FLOATS, sizeof(Sums));
        return sums;
    }
};

enum Direction { FORWARD = 1, BACKWARD = 2 };

int panel_rows(const Stage& stage, bool back) {
    const Layer& layer = stage.layer;
    if (stage.linear()) return even_part(back ? layer.in_channels : layer.out_channels, LINEAR_ROWS);
    return (back ? stage.backward : stage.forward).tile.rows;
}

void pack_weights(const Run& run, int directions) {
    const Plan& plan = run.plan;
    parallel(run.threads, 2 * plan.count, [&](int task, int) {
        const Stage& stage = plan.stages[task / 2];
        const Layer& layer = stage.layer;
        const bool back = task % 2 != 0;
        if (!(directions & (back ? BACKWARD : FORWARD))) return;
        const int tile = panel_rows(stage, back);
        const int rows = back ? layer.in_channels : layer.out_channels;
        const int taps = stage.weights() / rows;
        float* panels = run.workspace + (back ? stage.back_panels : stage.panels);
        for (int first = 0; first < rows; first += tile) {
            const int n = min(tile, rows - first);
            float* panel = panels + static_cast<ptrdiff_t>(first) * taps;
            if (back) pack_panel_back(layer.weight, layer.out_channels, rows, stage.area(), first, n, panel);
            else pack_panel(layer.weight, taps, first, n, panel);
        }
    });
}

// Zero the columns at both ends of `count` rows.
void clear_margins(float* rows, int count, int row_floats, int pad) {
    if (pad == 0) return;
    for (int i = 0; i < count; ++i, rows += row_floats) {
        clear(rows, pad);
        clear(rows + row_floats - pad * LANES, pad);
    }
}

}  // namespace
