// What crosses between Python, the dispatcher and the code compiled for each instruction set.
// Plain C types only: Python mirrors these structures with ctypes.
#pragma once
#include <cstddef>
#include <cstdint>

extern "C" {

// Changes with everything below that Python mirrors: a library with another number isn't used.
constexpr int32_t ABI = 3;

enum LayerKind : int32_t { CONVOLUTION = 0, LINEAR = 1 };
enum Activation : int32_t { NO_ACTIVATION = 0, SIGMOID = 1, TANH = 2, RELU = 3 };
enum Pooling : int32_t { NO_POOLING = 0, AVERAGE = 1, MAXIMUM = 2 };

// A convolution (stride 1) or linear layer with the activation and the pooling that follow it.
// A linear layer has in_channels features, and 1 as height, width and kernel.
// A bias may be null (there is none); so may a gradient (nobody asked for it).
struct Layer {
    int32_t kind, in_channels, in_height, in_width, out_channels, kernel, padding;
    int32_t activation, pooling, pool_kernel, pool_stride;
    const float* weight;
    const float* bias;
    float* weight_grad;
    float* bias_grad;
};

// Layers in the order they run: convolutions first, then linear layers.
struct Chain {
    const Layer* layers;
    int32_t count;
};

// `count` images out of `images` [*, C, H, W], picked by `order` (null: the first ones, in order).
// With a `table` of 256 floats the images are bytes, and table[byte] is the pixel's value.
struct Images {
    const void* images;
    const float* table;
    const int64_t* order;
    int64_t count;
};

// The loss: cross-entropy of the chain's output against labels[order[i]]. The sums over the images
// come back, and how long gathering them took (its share of the wall clock, over all threads).
struct Loss {
    const int64_t* labels;
    double sum;
    int64_t correct;
    double gather_seconds;
};

// One tensor of parameters to update; the moments are null for plain gradient descent.
struct Parameter {
    float* value;
    const float* grad;
    float* first_moment;
    float* second_moment;
    int64_t size;
};

// Gradient descent: rate only. Adam: `rate` is lr / (1 - beta1^t), `root` is sqrt(1 - beta2^t).
struct Update {
    double rate, beta1, beta2, eps, root;
    int32_t adam;
};

// Weights [out, in, row, column], or their gradients: where they lie, and how far apart, in floats.
struct Weights {
    float* values;
    int64_t out, in, row, column;
};

// A convolution of stride 1 with a square kernel of 3 or 5, on a batch [images, height, width,
// in_channels].
struct WideConvolution {
    int32_t images, height, width, in_channels, out_channels, kernel, padding;
    Weights weights;
};

// A batch normalisation of `pixels` pixels, those of all images, with the ReLU that follows it, if any.
// The running statistics may be null, weight and bias, too. `mean` and `inverse` (of the deviation)
// are found from the batch, or given.
struct BatchNorm {
    int64_t pixels;
    int32_t channels, relu;
    double eps, momentum;
    const float* weight;
    const float* bias;
    float* running_mean;
    float* running_var;
    float* mean;
    float* inverse;
};

// A max-pooling with square windows.
struct MaxPool {
    int32_t images, height, width, channels, kernel, stride, padding, out_height, out_width;
};

// Operations on images with their channels last. A `mask` stands beside what is read: where it isn't
// positive, that counts as 0 (as behind a ReLU with this output); it may be null, as may a bias.
struct ChannelsLast {
    size_t (*convolution_workspace)(const WideConvolution*, int back, int threads);  // in floats
    void (*convolution)(const WideConvolution*, const float* x, const float* mask, const float* bias, int relu,
                        float* y, float* workspace, int threads);
    void (*convolution_weight_grad)(const WideConvolution*, const float* x, const float* grad, const float* mask,
                                    float* bias_grad, float* workspace, int threads);
    size_t (*batch_norm_workspace)(const BatchNorm*);  // in floats
    // `other` is added before the ReLU, unless it is null; without a workspace the statistics are given.
    void (*batch_norm)(const BatchNorm*, const float* x, const float* other, float* y, float* workspace, int threads);
    // `y` is what came out of the ReLU; it may be null where nothing was added before, and any gradient
    // but the first may.
    void (*batch_norm_grad)(const BatchNorm*, const float* x, const float* grad, const float* y, float* x_grad,
                            float* other_grad, float* weight_grad, float* bias_grad, float* workspace, int threads);
    // `taken`: for each value of y, which of its window's it is.
    void (*max_pool)(const MaxPool*, const float* x, float* y, uint8_t* taken, int threads);
    void (*max_pool_grad)(const MaxPool*, const float* grad, const uint8_t* taken, float* x_grad, int threads);
};

// The functions one instruction set provides. The workspace belongs to the caller; what `forward`
// keeps in it is what `backward` reads.
struct Kernels {
    const char* name;
    int32_t lanes;
    size_t (*workspace)(const Chain*, int64_t count, int keep, int threads);  // in floats
    void (*forward)(const Chain*, const Images*, float* workspace, int keep, int threads, float* out);
    void (*backward)(const Chain*, int64_t count, float* workspace, int threads,
                     const float* out_grad, float* in_grad);
    // The gradients of the mean loss; and, without `keep`'s workspace, the loss alone.
    void (*step)(const Chain*, const Images*, float* workspace, int threads, Loss*);
    void (*evaluate)(const Chain*, const Images*, float* workspace, int threads, Loss*);
    void (*update)(const Parameter*, int32_t count, int threads, const Update*);
    void (*activate)(int32_t activation, float* values, int64_t count);
    const ChannelsLast* channels_last;
};
}
