// Runs chains of random shapes through every function of the kernels, for the sanitizers to watch.
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

}  // namespace

int main(int, char** arguments) {
    const int rounds = std::atoi(arguments[1]);
    for (int i = 0; const Kernels* kernels = fbf_kernels(i); ++i) {
        for (int round = 0; round < rounds; ++round) {
            generator.seed(static_cast<unsigned>(round));
            exercise(*kernels);
        }
        std::printf("%s\n", kernels->name);
    }
}
