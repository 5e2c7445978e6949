// Pointwise convolution on Cortex-M (C99): blocks of pixels by outputs, the outputs' constants made once for all
// pixels.

#ifndef UNFLOAT_KERNELS_CONV2D_POINTWISE_H_
#define UNFLOAT_KERNELS_CONV2D_POINTWISE_H_

#include "../scalar.h"

// Whether the inputs of consecutive pixels lie side by side, one tap each, and outputs come in whole blocks.
static bool is_pointwise(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  return window->kernel_h == 1 && window->kernel_w == 1 && window->stride_h == 1 && window->stride_w == 1 &&
         window->pad_top == 0 && window->pad_left == 0 && node->inputs[0]->shape[1] == node->output->shape[1] &&
         node->inputs[0]->shape[2] == node->output->shape[2] && linear->groups == 1 && linear->weight_zero_point == 0 &&
         node->output->shape[3] % UF_BLOCK_OUTPUTS == 0;
}

// What the sum of an output begins with, so that its products need not take the zero point off. Wrapping: the whole sum
// is proven to fit, its parts are not.
static int32_t start_of(const uf_linear *linear, ptrdiff_t output, ptrdiff_t depth) {
  const uint32_t weights = (uint32_t)uf_sum_weights(linear->weight + output * depth, depth);
  return (int32_t)((uint32_t)linear->bias[output] + (uint32_t)(UF_BLOCK_ZERO - linear->input_zero_point) * weights);
}

// All pixels but those that fill no block; the first of these.
static int64_t run_pointwise(const uf_node *node, uf_range pixels) {
  const uf_linear *linear = &node->params.linear;
  const ptrdiff_t depth = node->inputs[0]->shape[3], channels = node->output->shape[3];
  const int32_t blocks = (int32_t)((pixels.end - pixels.begin) / UF_BLOCK_PIXELS);
  for (ptrdiff_t o = 0; o < channels; o += UF_BLOCK_OUTPUTS) {
    const uint8_t *x = node->inputs[0]->data + pixels.begin * depth;
    uint8_t *out = node->output->data + pixels.begin * channels + o;
    int32_t start[UF_BLOCK_OUTPUTS], sums[UF_BLOCK_PIXELS][UF_BLOCK_OUTPUTS];
    for (int r = 0; r < UF_BLOCK_OUTPUTS; ++r) start[r] = start_of(linear, o + r, depth);
    for (int32_t block = 0; block < blocks; ++block, x += UF_BLOCK_PIXELS * depth) {
      uf_sum_block(x, linear->weight + o * depth, depth, start, sums);
      for (int p = 0; p < UF_BLOCK_PIXELS; ++p, out += channels) {
        uf_emit_channels(linear, sums[p], o, UF_BLOCK_OUTPUTS, out);
      }
    }
  }
  return pixels.begin + (int64_t)blocks * UF_BLOCK_PIXELS;
}

#endif  // UNFLOAT_KERNELS_CONV2D_POINTWISE_H_
