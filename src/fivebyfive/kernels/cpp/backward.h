// A group's gradient from the output back through the layers; and, after every group is through, the
// gradients of the weights.
#pragma once
#include "images.h"
#include "run.h"

namespace {

// All lanes' sum of an image [height, width]. Several sums run side by side: each addition waits for
// the one before it in its own.
float sum_image(const float* image, int height, int width, int row_floats) {
    Vec total[4] = {};
    for (int i = 0; i < height; ++i, image += row_floats) {
        int j = 0;
        for (; j + 4 <= width; j += 4)
            for (int k = 0; k < 4; ++k) total[k] += load(image + (j + k) * LANES);
        for (; j < width; ++j) total[0] += load(image + j * LANES);
    }
    return sum((total[0] + total[1]) + (total[2] + total[3]));
}

// The gradient at a convolution's sums (into `sums_grad`), its share of the weight gradients, and, into `in_grad`
// unless that is null, the gradient at its input.
void convolve_back(const Run& run, const Stage& stage, const float* block, const float* out_grad,
                   float* sums_grad, float* partial, float* in_grad) {
    const Convolution& c = stage.backward;
    const Layer& layer = stage.layer;
    const int pad = in_grad ? c.pad : 0, height = c.height, width = c.width;
    const int row = (width + 2 * pad) * LANES;
    const ptrdiff_t channel = static_cast<ptrdiff_t>(height) * row;
    const float* y = block + stage.activated();
    clear_margins(sums_grad, layer.out_channels * height, row, pad);
    float* const inner = sums_grad + pad * LANES;
    float* bias_grad = partial + stage.weights();
    with_activation(layer.activation, [&](auto known) {
        for (int o = 0; o < layer.out_channels; ++o)
            unpool<decltype(known)::value>(
                {y + o * static_cast<ptrdiff_t>(height) * stage.activated_row(),
                 out_grad + static_cast<ptrdiff_t>(o) * stage.out_height * stage.out_width * LANES,
                 inner + o * channel, stage.activated_row(), row, stage.out_height, stage.out_width, height, width},
                stage.pool);
    });
    if (layer.bias_grad)
        for (int o = 0; o < layer.out_channels; ++o)
            bias_grad[o] += sum_image(inner + o * channel, height, width, row);
    if (layer.weight_grad)
        convolution_weight_grad(stage.forward, block + stage.in, inner, row, partial);
    if (!in_grad) return;
    const ptrdiff_t in_row = layer.in_width * LANES;
    for (int i = 0; i < layer.in_height; ++i)
        convolution_row(c, sums_grad, run.workspace + stage.back_panels, nullptr, i, in_grad + i * in_row,
                        layer.in_height * in_row);
}

void linear_back(const Run& run, const Stage& stage, float* blocks, int count, const float* out_grad,
                 float* in_grad) {
    const Plan& plan = run.plan;
    const Layer& layer = stage.layer;
    with_activation(layer.activation, [&](auto known) {
        for (int b = 0; b < count; ++b) {
            float* block = blocks + b * plan.block_floats;
            for (int o = 0; o < layer.out_channels * LANES; o += LANES)
                store(block + stage.grad + o,
                      before<decltype(known)::value>(load(out_grad + b * plan.gradient_floats + o),
                                                     load(block + stage.out + o)));
        }
    });
    if (!in_grad) return;
    linear(run.workspace + stage.back_panels, layer.in_channels, layer.out_channels, panel_rows(stage, true),
           blocks + stage.grad, plan.block_floats, nullptr, count, in_grad, plan.gradient_floats);
}

// From the gradient at the output, in the first of the scratch's two buffers, back through all
// layers. Gives the gradient at the chain's input if that is wanted.
const float* backward_group(const Run& run, int group, float* scratch, bool want_input) {
    const Plan& plan = run.plan;
    const int count = plan.blocks_of(group);
    float* blocks = run.block(group * PAIR);
    float* grad = scratch;
    float* next = scratch + PAIR * plan.gradient_floats;
    float* sums_grad = scratch + 2 * PAIR * plan.gradient_floats;
    memset(run.partial(group), 0, static_cast<size_t>(plan.partial_floats) * sizeof(float));
    for (int i = plan.count - 1; i >= 0; --i) {
        const Stage& stage = plan.stages[i];
        const bool needed = i > 0 || want_input;
        if (stage.linear()) {
            linear_back(run, stage, blocks, count, grad, needed ? next : nullptr);
        } else {
            for (int b = 0; b < count; ++b)
                convolve_back(run, stage, blocks + b * plan.block_floats, grad + b * plan.gradient_floats, sums_grad,
                              run.partial(group) + stage.partial,
                              needed ? next + b * plan.gradient_floats : nullptr);
        }
        float* const swapped = grad;
        grad = next, next = swapped;
    }
    return grad;
}

constexpr int STRETCH = 4096;  // parameters a task sums or updates

int gradient_tasks(const Stage& stage) {
    if (stage.linear()) return ceil_div(stage.layer.in_channels, 2 * LANES) + 1;
    return ceil_div(stage.weights() + stage.layer.out_channels, STRETCH);
}

// Sum the groups' shares of a stretch of a convolution's gradients, first group first.
void sum_partials(const Run& run, const Stage& stage, int first) {
    const int weights = stage.weights(), all = weights + stage.layer.out_channels;
    for (int i = first; i < min(first + STRETCH, all); ++i) {
        float* out = i < weights ? stage.layer.weight_grad : stage.layer.bias_grad;
        if (!out) continue;
        float total = 0.0f;
        for (int group = 0; group < run.plan.groups; ++group) total += run.partial(group)[stage.partial + i];
        out[i < weights ? i : i - weights] = total;
    }
}

void linear_bias_grad(const Run& run, const Stage& stage) {
    if (!stage.layer.bias_grad) return;
    for (int o = 0; o < stage.layer.out_channels; ++o) {
        Vec total = Vec{};
        for (int b = 0; b < run.plan.blocks; ++b) total += load(run.block(b) + stage.grad + o * LANES);
        stage.layer.bias_grad[o] = sum(total);
    }
}

void weight_gradients(const Run& run) {
    const Plan& plan = run.plan;
    int tasks = 0;
    for (int i = 0; i < plan.count; ++i) tasks += gradient_tasks(plan.stages[i]);
    parallel(run.threads, tasks, [&](int task, int worker) {
        int i = 0;
        for (; task >= gradient_tasks(plan.stages[i]); ++i) task -= gradient_tasks(plan.stages[i]);
        const Stage& stage = plan.stages[i];
        const Layer& layer = stage.layer;
        if (!stage.linear()) return sum_partials(run, stage, task * STRETCH);
        if (task == gradient_tasks(stage) - 1) return linear_bias_grad(run, stage);
        if (layer.weight_grad)
            linear_weight_grad(run.block(0) + stage.in, plan.block_floats, run.block(0) + stage.grad,
                               plan.block_floats, plan.blocks, layer.out_channels, layer.in_channels,
                               task * 2 * LANES, run.scratch(worker), layer.weight_grad);
    });
}

}  // namespace
