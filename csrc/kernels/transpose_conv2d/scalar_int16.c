// Transposed convolution on int16 codes, NHWC: acc[o] = bias[o] + sum w * x over the pixels that reach it (eq. 13).

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "taps.h"

static size_t scratch_size(const uf_node *node) { return (size_t)node->output->shape[3] * sizeof(int64_t); }

// Adds the products of tap (i, j) for all output channels.
static void add_tap(const uf_node *node, const uf_made_pixel *pixel, int32_t i, int32_t j, int64_t *sums) {
  const uf_linear *linear = &node->params.linear;
  const int32_t depth = node->inputs[0]->shape[3], channels = node->output->shape[3];
  const int64_t taps = (int64_t)linear->window.kernel_h * linear->window.kernel_w;
  const int8_t *w = linear->weight + (int64_t)uf_made_tap(&linear->window, pixel, i, j) * depth;
  const int16_t *x = uf_words(uf_made_input(node, pixel, i, j));
  for (int32_t o = 0; o < channels; ++o) sums[o] = uf_dot_words(sums[o], x, w + o * taps * depth, depth);
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3];
  int64_t *sums = uf_scratch(node, thread);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_made_pixel pixel = uf_made_pixel_at(node, index);
    memcpy(sums, linear->wide_bias, (size_t)channels * sizeof(int64_t));
    for (int32_t i = 0; i < pixel.rows.count; ++i) {
      for (int32_t j = 0; j < pixel.columns.count; ++j) add_tap(node, &pixel, i, j, sums);
    }
    uf_emit_words(linear, sums, 0, channels, uf_words_of(node->output) + index * channels);
  }
}

UF_DEFINE_KERNEL(transpose_conv2d, .storage = UF_WORDS, .scratch_size = scratch_size, .run = run);
