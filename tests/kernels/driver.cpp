// Runs random shapes through every function of the kernels, for the sanitizers to watch.
// Every buffer is its own allocation of exactly the size the library may use. A chain is drawn from
// its number alone: all instruction sets get the same, and one that fails can be drawn again.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "api.h"

extern "C" const Kernels* fbf_kernels(int index);

namespace {

std::mt19937 generator;

int draw(int low, int high) { return std::uniform_int_distribution<int>(low, high)(generator); }

std::vector<float> numbers(size_t count) {
    std::vector<float> result(count);
    for (float& x : result) x = std::uniform_real_distribution<float>(-0.5f, 0.5f)(generator);
    return result;
}

struct Random {
    std::vector<Layer> layers;
    std::vector<std::vector<float>> buffers;
    std::vector<Parameter> parameters;
    int channels = draw(1, 4), height = draw(4, 14), width = draw(4, 14);
    int in_values = channels * height * width;

    const float* keep(size_t count) {
        buffers.push_back(numbers(count));
        return buffers.back().data();
    }

    void add(int kind, int outputs, int kernel, int padding) {
        Layer layer = {};
        layer.kind = kind, layer.in_channels = channels, layer.in_height = height;
        layer.in_width = width, layer.out_channels = outputs, layer.kernel = kernel;
        layer.padding = padding, layer.activation = draw(0, 3);
        const size_t size = static_cast<size_t>(outputs) * channels * kernel * kernel;
        layer.weight = keep(size);
        layer.bias = draw(0, 3) ? keep(outputs) : nullptr;
        layer.weight_grad = draw(0, 4) ? const_cast<float*>(keep(size)) : nullptr;
        layer.bias_grad = layer.bias && draw(0, 4) ? const_cast<float*>(keep(outputs)) : nullptr;
        channels = outputs;
        height += 2 * padding - kernel + 1, width += 2 * padding - kernel + 1;
        layer.pool_kernel = draw(2, 3), layer.pool_stride = draw(2, 3);
        if (kind == CONVOLUTION && height >= layer.pool_kernel && width >= layer.pool_kernel) {
            layer.pooling = draw(0, 2);
            if (layer.pooling) {
                height = (height - layer.pool_kernel) / layer.pool_stride + 1;
                width = (width - layer.pool_kernel) / layer.pool_stride + 1;
            }
        }
        layers.push_back(layer);
        if (!layer.weight_grad) return;
        float* moments[2] = {const_cast<float*>(keep(size)), const_cast<float*>(keep(size))};
        for (size_t i = 0; i < size; ++i) moments[1][i] = std::fabs(moments[1][i]);
        parameters.push_back({const_cast<float*>(layer.weight), layer.weight_grad, moments[0],
                              moments[1], static_cast<int64_t>(size)});
    }

    Random() {
        for (int blocks = draw(0, 3); blocks > 0; --blocks) {
            const int kernel = draw(1, height < width ? height : width) % 11 + 1;
            const int padding = draw(0, kernel - 1);
            if (height + 2 * padding < kernel || width + 2 * padding < kernel) continue;
            add(CONVOLUTION, draw(1, 9), kernel, padding);
        }
        channels *= height * width, height = width = 1;
        for (int linear = draw(1, 3); linear > 0; --linear) add(LINEAR, draw(2, 40), 1, 0);
    }
};

void exercise(const Kernels& k) {
    Random random;
    const Chain chain = {random.layers.data(), static_cast<int32_t>(random.layers.size())};
    const int count = draw(1, 70), stored = draw(count, 80), threads = draw(1, 3);
    const bool bytes = draw(0, 1);
    std::vector<uint8_t> pixels(static_cast<size_t>(stored) * random.in_values);
    for (uint8_t& p : pixels) p = static_cast<uint8_t>(draw(0, 255));
    const std::vector<float> floats = numbers(pixels.size()), table = numbers(256);
    std::vector<int64_t> order(count), labels(stored);
    for (int64_t& i : order) i = draw(0, stored - 1);
    for (int64_t& l : labels) l = draw(0, random.channels - 1);
    const Images images = {bytes ? static_cast<const void*>(pixels.data()) : floats.data(),
                           bytes ? table.data() : nullptr, draw(0, 1) ? order.data() : nullptr, count};
    std::vector<float> memory(k.workspace(&chain, count, 1, threads));
    std::vector<float> small(k.workspace(&chain, count, 0, threads));
    std::vector<float> out(static_cast<size_t>(count) * random.channels), again(out.size());
    std::vector<float> in_grad(static_cast<size_t>(count) * random.in_values);
    k.forward(&chain, &images, memory.data(), 1, threads, out.data());
    k.backward(&chain, count, memory.data(), threads, out.data(), draw(0, 1) ? in_grad.data() : nullptr);
    k.forward(&chain, &images, small.data(), 0, threads, again.data());
    if (out != again) std::exit(2);
    Loss loss = {labels.data(), 0, 0, 0};
    k.evaluate(&chain, &images, small.data(), threads, &loss);
    k.step(&chain, &images, memory.data(), threads, &loss);
    for (int adam = 1; adam >= 0; --adam) {
        const Update rule = {1e-3, 0.9, 0.999, 1e-8, 1.0, adam};
        k.update(random.parameters.data(), static_cast<int32_t>(random.parameters.size()), threads, &rule);
        for (Parameter& p : random.parameters) p.first_moment = p.second_moment = nullptr;  // for SGD
    }
}

const float* maybe(const std::vector<float>& values) { return draw(0, 2) ? values.data() : nullptr; }

// A convolution with the channels last, forward, back to the input, and back to the weights.
void exercise_convolution(const ChannelsLast& k) {
    const int kernel = draw(0, 1) ? 3 : 5, padding = draw(0, kernel - 1), threads = draw(1, 3);
    const int least = kernel > 2 * padding ? kernel - 2 * padding : 1;
    WideConvolution c = {draw(1, 20), draw(least, least + 9), draw(least, least + 9), draw(1, 40), draw(1, 40),
                         kernel,      padding,                {}};
    const int taps = kernel * kernel, out_height = c.height + 2 * padding - kernel + 1;
    const int out_width = c.width + 2 * padding - kernel + 1;
    const auto x = numbers(static_cast<size_t>(c.images) * c.height * c.width * c.in_channels);
    auto y = numbers(static_cast<size_t>(c.images) * out_height * out_width * c.out_channels);
    auto weight = numbers(static_cast<size_t>(c.out_channels) * c.in_channels * taps);
    const auto bias = numbers(c.out_channels), mask = numbers(y.size());
    auto bias_grad = numbers(c.out_channels), x_grad = numbers(x.size());
    const bool last = draw(0, 1);
    const int64_t in = last ? 1 : taps, pixel = last ? c.in_channels : 1;
    c.weights = {weight.data(), int64_t{c.in_channels} * taps, in, kernel * pixel, pixel};
    std::vector<float> memory(k.convolution_workspace(&c, 0, threads));
    k.convolution(&c, x.data(), maybe(x), maybe(bias), draw(0, 1), y.data(), memory.data(), threads);
    WideConvolution back = {c.images,      out_height,  out_width,           c.out_channels,
                            c.in_channels, c.kernel,    kernel - 1 - padding, {}};
    back.weights = {weight.data() + (taps - 1) * pixel, c.weights.in, c.weights.out, -c.weights.row, -pixel};
    memory.assign(k.convolution_workspace(&back, 0, threads), 0.0f);
    memory.shrink_to_fit();
    k.convolution(&back, y.data(), maybe(mask), nullptr, 0, x_grad.data(), memory.data(), threads);
    memory.assign(k.convolution_workspace(&c, 1, threads), 0.0f);
    memory.shrink_to_fit();
    k.convolution_weight_grad(&c, x.data(), y.data(), maybe(mask), draw(0, 1) ? bias_grad.data() : nullptr,
                              memory.data(), threads);
}

void exercise_batch_norm(const ChannelsLast& k) {
    const int channels = draw(1, 150), threads = draw(1, 3);
    const int64_t pixels = draw(2, 1500);
    const auto weight = numbers(channels), bias = numbers(channels);
    auto mean = numbers(channels), inverse = numbers(channels), running = numbers(2 * channels);
    float* kept = draw(0, 1) ? running.data() : nullptr;
    const BatchNorm n = {pixels, channels, draw(0, 1), 1e-5, 0.1, maybe(weight), maybe(bias), kept,
                         kept ? kept + channels : nullptr, mean.data(), inverse.data()};
    const auto x = numbers(pixels * channels), other = numbers(x.size());
    auto y = numbers(x.size()), x_grad = numbers(x.size()), other_grad = numbers(x.size());
    auto weight_grad = numbers(channels), bias_grad = numbers(channels);
    std::vector<float> memory(k.batch_norm_workspace(&n));
    k.batch_norm(&n, x.data(), maybe(other), y.data(), memory.data(), threads);
    k.batch_norm(&n, x.data(), maybe(other), y.data(), nullptr, threads);
    k.batch_norm_grad(&n, x.data(), other.data(), maybe(y), x_grad.data(),
                      draw(0, 1) ? other_grad.data() : nullptr, draw(0, 1) ? weight_grad.data() : nullptr,
                      draw(0, 1) ? bias_grad.data() : nullptr, memory.data(), threads);
}

void exercise_max_pool(const ChannelsLast& k) {
    const int kernel = draw(1, 5), stride = draw(1, 4), padding = draw(0, kernel / 2), threads = draw(1, 3);
    MaxPool p = {draw(1, 5), draw(kernel, kernel + 9), draw(kernel, kernel + 9), draw(1, 150), kernel, stride,
                 padding,    0,                        0};
    p.out_height = (p.height + 2 * padding - kernel) / stride + 1;
    p.out_width = (p.width + 2 * padding - kernel) / stride + 1;
    const auto x = numbers(static_cast<size_t>(p.images) * p.height * p.width * p.channels);
    auto y = numbers(static_cast<size_t>(p.images) * p.out_height * p.out_width * p.channels);
    auto x_grad = numbers(x.size());
    std::vector<uint8_t> taken(y.size());
    k.max_pool(&p, x.data(), y.data(), taken.data(), threads);
    k.max_pool_grad(&p, y.data(), taken.data(), x_grad.data(), threads);
}

}  // namespace

int main(int, char** arguments) {
    const int rounds = std::atoi(arguments[1]);
    for (int i = 0; const Kernels* kernels = fbf_kernels(i); ++i) {
        for (int round = 0; round < rounds; ++round) {
            generator.seed(static_cast<unsigned>(round));
            exercise(*kernels);
            exercise_convolution(*kernels->channels_last);
            exercise_batch_norm(*kernels->channels_last);
            exercise_max_pool(*kernels->channels_last);
        }
        std::printf("%s\n", kernels->name);
    }
}
