// Where everything lies: the chain's geometry, and the offsets of its buffers in the workspace.
//
// The workspace is one stretch of floats:
//     sums          [groups] loss, right guesses and seconds of a step
//     panels        every layer's packed weights, forward and backward
//     partials      [groups] weight and bias gradients of the convolutions, summed in order later
//     blocks        [blocks] of LANES images: each layer's input, what pooling took, the output
//     scratch       [threads] gradients on their way back
// Images go in groups of PAIR blocks. A group is one task from the first layer to the last, and
// its partial sums are its own, so results don't depend on the number of threads.
#pragma once
#include "api.h"
#include "convolution.h"
#include "linear.h"
#include "loss.h"
#include "pooling.h"

namespace {

constexpr int MAX_LAYERS = 32;
constexpr ptrdiff_t SUMS_FLOATS = sizeof(Sums) / sizeof(float);
static_assert(sizeof(Sums) % sizeof(float) == 0, "sums lie in the workspace as whole floats");

struct Stage {
    Layer layer;
    Convolution forward, backward;  // of a convolution
    Pool pool;
    int out_height, out_width;
    int out_pad;                     // zero columns the next layer wants
    ptrdiff_t in, kept, out, grad;   // offsets in a block; `kept` is what pooling took
    ptrdiff_t panels, back_panels;   // offsets in the workspace
    ptrdiff_t partial;               // offset in a group's partials

    bool linear() const { return layer.kind == LINEAR; }
    bool pooled() const { return layer.pooling != NO_POOLING; }
    int area() const { return layer.kernel * layer.kernel; }
    int weights() const { return layer.out_channels * layer.in_channels * area(); }
    int in_values() const { return layer.in_channels * layer.in_height * layer.in_width; }
    int out_values() const { return layer.out_channels * out_height * out_width; }
    int out_row() const { return (out_width + 2 * out_pad) * LANES; }
    // The activation's output y: under the pooling, or else the layer's output.
    ptrdiff_t activated() const { return pooled() ? kept : out + out_pad * LANES; }
    int activated_row() const { return pooled() ? forward.out_width() * LANES : out_row(); }
};

struct Plan {
    Stage stages[MAX_LAYERS];
    int count;
    int images, blocks, groups;
    ptrdiff_t partials, partial_floats, first_block, block_floats, scratch, scratch_floats, total;
    ptrdiff_t gradient_floats;  // of one block, between two layers

    const Stage& last() const { return stages[count - 1]; }
    int blocks_of(int group) const { return min(PAIR, blocks - group * PAIR); }
    int images_of(int block) const { return min(LANES, images - block * LANES); }
};

inline ptrdiff_t rounded(ptrdiff_t floats) { return (floats + 15) / 16 * 16; }  // a cache line

inline ptrdiff_t take(ptrdiff_t& end, ptrdiff_t floats) {
    const ptrdiff_t start = end;
    end += rounded(floats);
    return start;
}

inline void shape_stage(Stage& stage, const Layer& layer) {
    stage.layer = layer;
    stage.pool = {layer.pooling, layer.pool_kernel, layer.pool_stride};
    stage.out_height = stage.out_width = 1;
    if (stage.linear()) return;
    Convolution& f = stage.forward;
    f = {layer.in_channels, layer.in_height, layer.in_width, layer.out_channels, layer.kernel,
         layer.padding, {}};
    f.tile = choose_tile(f);
    Convolution& b = stage.backward;
    b = {layer.out_channels, f.out_height(), f.out_width(), layer.in_channels, layer.kernel,
         layer.kernel - 1 - layer.padding, {}};
    b.tile = choose_tile(b);
    stage.out_height = f.out_height(), stage.out_width = f.out_width();
    if (stage.pooled()) {
        stage.out_height = (stage.out_height - layer.pool_kernel) / layer.pool_stride + 1;
        stage.out_width = (stage.out_width - layer.pool_kernel) / layer.pool_stride + 1;
    }
}

// With `keep`, every image keeps what the way back needs; without, a thread has room for a group.
inline Plan make_plan(const Chain& chain, int64_t images, bool keep, int threads) {
    Plan plan = {};
    plan.count = chain.count;
    plan.images = static_cast<int>(images);
    plan.blocks = ceil_div(plan.images, LANES);
    plan.groups = ceil_div(plan.blocks, PAIR);
    take(plan.total, plan.groups * SUMS_FLOATS);

    ptrdiff_t block = 0, slope = 0;
    for (int i = 0; i < chain.count; ++i) {
        Stage& stage = plan.stages[i];
        shape_stage(stage, chain.layers[i]);
        const bool more = i + 1 < chain.count;
        stage.out_pad = more && chain.layers[i + 1].kind == CONVOLUTION ? chain.layers[i + 1].padding : 0;
        stage.panels = take(plan.total, stage.weights());
        stage.back_panels = keep ? take(plan.total, stage.weights()) : 0;
        stage.in = i > 0 ? plan.stages[i - 1].out
                   : take(block, stage.linear() ? stage.in_values() * LANES
                                                : stage.layer.in_channels * stage.forward.channel_floats());
        if (stage.pooled())
            stage.kept = take(block, static_cast<ptrdiff_t>(stage.layer.out_channels) *
                                         stage.forward.out_height() * stage.activated_row());
        stage.out = take(block, static_cast<ptrdiff_t>(stage.layer.out_channels) * stage.out_height *
                                    stage.out_row());
        if (stage.linear()) {
            stage.grad = take(block, stage.out_values() * LANES);
        } else {
            stage.partial = take(plan.partial_floats, stage.weights() + stage.layer.out_channels);
            const Convolution& b = stage.backward;
            const ptrdiff_t floats = static_cast<ptrdiff_t>(b.inputs) * b.channel_floats();
            if (floats > slope) slope = floats;
        }
        const ptrdiff_t gradient = rounded(LANES * static_cast<ptrdiff_t>(
            max(stage.in_values(), stage.out_values())));
        if (gradient > plan.gradient_floats) plan.gradient_floats = gradient;
    }
    plan.block_floats = block;
    plan.partials = keep ? take(plan.total, plan.groups * plan.partial_floats) : 0;
    const ptrdiff_t held = keep ? plan.blocks : static_cast<ptrdiff_t>(PAIR) * threads;
    plan.first_block = take(plan.total, held * block);
    // A thread's scratch holds two gradients of a group and one before the activation; later, a
    // panel of all images' inputs (linear_weight_grad).
    const ptrdiff_t panel = static_cast<ptrdiff_t>(plan.blocks) * LANES * 2 * LANES;
    const ptrdiff_t back = 2 * PAIR * plan.gradient_floats + rounded(slope);
    plan.scratch_floats = !keep ? 0 : rounded(panel > back ? panel : back);
    plan.scratch = take(plan.total, threads * plan.scratch_floats);
    return plan;
}

}  // namespace
