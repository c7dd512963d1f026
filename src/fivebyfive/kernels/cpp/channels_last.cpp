// Operations on images with their channels last. Compiled once for each instruction set, under the
// name given by FBF_ISA; everything else in here is private to it.
#include "batch_norm.h"
#include "max_pool.h"
#include "winograd.h"

namespace {

size_t convolution_workspace(const WideConvolution* c, int back, int threads) {
    return (back ? WinogradGradient(*c).floats() : Winograd(*c).forward_floats(threads)) + 16;  // see aligned()
}

void convolution(const WideConvolution* c, const float* x, const float* mask, const float* bias, int relu, float* y,
                 float* workspace, int threads) {
    (c->kernel == 3 ? convolve<4> : convolve<2>)(*c, x, mask, bias, relu, y, aligned(workspace), threads);
}

void convolution_weight_grad(const WideConvolution* c, const float* x, const float* grad, const float* mask,
                             float* bias_grad, float* workspace, int threads) {
    (c->kernel == 3 ? weight_grad<4> : weight_grad<2>)(*c, x, grad, mask, bias_grad, aligned(workspace), threads);
}

size_t batch_norm_workspace(const BatchNorm* n) { return partial_floats(*n); }

void batch_norm(const BatchNorm* n, const float* x, const float* other, float* y, float* workspace, int threads) {
    if (workspace) batch_statistics(*n, x, workspace, threads);
    normalise(*n, x, other, y, threads);
}

void batch_norm_grad(const BatchNorm* n, const float* x, const float* grad, const float* y, float* x_grad,
                     float* other_grad, float* weight_grad, float* bias_grad, float* workspace, int threads) {
    normalise_grad(*n, x, grad, y, x_grad, other_grad, weight_grad, bias_grad, workspace, threads);
}

void max_pool(const MaxPool* p, const float* x, float* y, uint8_t* taken, int threads) {
    max_pool_forward(*p, x, y, taken, threads);
}

void max_pool_grad(const MaxPool* p, const float* grad, const uint8_t* taken, float* x_grad, int threads) {
    max_pool_back(*p, grad, taken, x_grad, threads);
}

}  // namespace

#define NAME_(isa) channels_last_##isa
#define NAME(isa) NAME_(isa)
extern const ChannelsLast NAME(FBF_ISA);
const ChannelsLast NAME(FBF_ISA) = {convolution_workspace, convolution,     convolution_weight_grad,
                                     batch_norm_workspace,  batch_norm,      batch_norm_grad,
                                     max_pool,              max_pool_grad};
