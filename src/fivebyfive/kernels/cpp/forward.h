// A group of images from bytes or floats through the layers to the loss.
#pragma once
#include <chrono>

#include "images.h"
#include "run.h"

namespace {

// Unused lanes repeat the block's first image: they never hold a NaN that no image has.
void fill_block(const Stage& first, const Images& images, int start, int count, float* block) {
    const int values = first.in_values(), pad = first.linear() ? 0 : first.layer.padding;
    const int rows = pad ? first.layer.in_channels * first.layer.in_height : 1;
    int64_t image[LANES];
    for (int lane = 0; lane < LANES; ++lane) {
        const int64_t at = start + (lane < count ? lane : 0);
        image[lane] = (images.order ? images.order[at] : at) * values;
    }
    if (images.table) {
        Bytes bytes = {{}, images.table};
        for (int i = 0; i < LANES; ++i) bytes.image[i] = static_cast<const uint8_t*>(images.images) + image[i];
        fill_lanes(bytes, rows, values / rows, pad, block);
    } else {
        Floats floats = {};
        for (int i = 0; i < LANES; ++i) floats.image[i] = static_cast<const float*>(images.images) + image[i];
        fill_lanes(floats, rows, values / rows, pad, block);
    }
}

void convolve(const Run& run, const Stage& stage, float* block) {
    const Convolution& c = stage.forward;
    const Layer& layer = stage.layer;
    const int row = stage.activated_row(), channels = layer.out_channels;
    const ptrdiff_t channel = static_cast<ptrdiff_t>(c.out_height()) * row;
    const ptrdiff_t out_channel = static_cast<ptrdiff_t>(stage.out_height) * stage.out_row();
    float* const y = block + stage.activated();
    int activated = 0, pooled = 0;  // rows so far
    for (int i = 0; i < c.out_height(); ++i) {
        convolution_row(c, block + stage.in, run.workspace + stage.panels, layer.bias, i, y + i * row, channel);
        const bool window = stage.pooled() && pooled < stage.out_height &&
                            i + 1 == pooled * layer.pool_stride + layer.pool_kernel;
        if (stage.pooled() && !window) continue;
        // Under a pooling, rows lie end to end: all that a window adds are activated as one.
        for (int o = 0; o < channels; ++o)
            activate(layer.activation, y + o * channel + activated * row, (i + 1 - activated) * c.out_width());
        activated = i + 1;
        if (!window) continue;
        const float* rows = y + pooled * layer.pool_stride * row;
        float* out = block + stage.out + pooled * stage.out_row() + stage.out_pad * LANES;
        for (int o = 0; o < channels; ++o)
            pool_row(stage.pool, rows + o * channel, row, stage.out_width, out + o * out_channel);
        ++pooled;
    }
    clear_margins(block + stage.out, channels * stage.out_height, stage.out_row(), stage.out_pad);
}

void gather_group(const Plan& plan, const Images& images, int group, float* blocks) {
    for (int b = 0; b < plan.blocks_of(group); ++b) {
        const int number = group * PAIR + b;
        fill_block(plan.stages[0], images, number * LANES, plan.images_of(number), blocks + b * plan.block_floats);
    }
}

void forward_group(const Run& run, int group, float* blocks) {
    const Plan& plan = run.plan;
    const int count = plan.blocks_of(group);
    for (int i = 0; i < plan.count; ++i) {
        const Stage& stage = plan.stages[i];
        const Layer& layer = stage.layer;
        if (!stage.linear()) {
            for (int b = 0; b < count; ++b) convolve(run, stage, blocks + b * plan.block_floats);
            continue;
        }
        linear(run.workspace + stage.panels, layer.out_channels, layer.in_channels, panel_rows(stage, false),
               blocks + stage.in, plan.block_floats, layer.bias, count, blocks + stage.out, plan.block_floats);
        for (int b = 0; b < count; ++b)
            activate(layer.activation, blocks + b * plan.block_floats + stage.out, layer.out_channels);
    }
}

double now() {
    const auto time = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(time).count();
}

// A group from images to loss, and to the loss's gradient unless that is null.
Sums evaluate_group(const Run& run, const Images& images, int group, float* blocks, const Loss& loss,
                    float* grad) {
    const Plan& plan = run.plan;
    const Stage& last = plan.last();
    Sums sums = {};
    const double start = now();
    gather_group(plan, images, group, blocks);
    sums.gather_seconds = now() - start;
    forward_group(run, group, blocks);
    for (int b = 0; b < plan.blocks_of(group); ++b) {
        const int first = (group * PAIR + b) * LANES, count = plan.images_of(group * PAIR + b);
        int64_t labels[LANES] = {};
        for (int lane = 0; lane < count; ++lane)
            labels[lane] = loss.labels[images.order ? images.order[first + lane] : first + lane];
        cross_entropy(blocks + b * plan.block_floats + last.out, last.out_values(), labels, count, plan.images,
                      grad ? grad + b * plan.gradient_floats : nullptr, sums);
    }
    return sums;
}

void add_up_groups(const Run& run, Loss& loss) {
    Sums total = {};
    for (int group = 0; group < run.plan.groups; ++group) {
        const Sums sums = run.sums_of(group);
        total.loss += sums.loss, total.correct += sums.correct;
        total.gather_seconds += sums.gather_seconds;
    }
    loss.sum = total.loss, loss.correct = static_cast<int64_t>(total.correct);
    loss.gather_seconds = total.gather_seconds / min(run.threads, run.plan.groups);
}

}  // namespace
