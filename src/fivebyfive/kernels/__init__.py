"""The CPU kernels: convolution blocks and linear layers with one image a SIMD lane."""
