// Transposed convolution, NHWC: acc[o] = bias[o] + sum (w - Zw) * (x - Zx) over the pixels that reach it (eq. 13).

#include "taps.h"

static size_t scratch_size(const uf_node *node) {
  return (size_t)node->output->shape[3] * sizeof(int32_t) + (size_t)node->inputs[0]->shape[3] * sizeof(int16_t);
}

// Adds the products of tap (i, j) for all output channels.
static void add_tap(const uf_node *node, const uf_made_pixel *pixel, int32_t i, int32_t j, int16_t *x, int32_t *sums) {
  const uf_linear *linear = &node->params.linear;
  const int32_t depth = node->inputs[0]->shape[3], channels = node->output->shape[3];
  const int64_t taps = (int64_t)linear->window.kernel_h * linear->window.kernel_w;
  const int8_t *w = linear->weight + (int64_t)uf_made_tap(&linear->window, pixel, i, j) * depth;
  uf_widen(uf_made_input(node, pixel, i, j), depth, linear->input_zero_point, x);
  for (int32_t o = 0; o < channels; ++o) {
    sums[o] = uf_dot(sums[o], x, w + o * taps * depth, depth, linear->weight_zero_point);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3];
  int32_t *sums = uf_scratch(node, thread);
  int16_t *x = (int16_t *)(sums + channels);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_made_pixel pixel = uf_made_pixel_at(node, index);
    memcpy(sums, linear->bias, (size_t)channels * sizeof(int32_t));
    for (int32_t i = 0; i < pixel.rows.count; ++i) {
      for (int32_t j = 0; j < pixel.columns.count; ++j) add_tap(node, &pixel, i, j, x, sums);
    }
    uf_emit_channels(linear, sums, 0, channels, node->output->data + index * channels);
  }
}

UF_DEFINE_KERNEL(transpose_conv2d, .scratch_size = scratch_size, .run = run);
