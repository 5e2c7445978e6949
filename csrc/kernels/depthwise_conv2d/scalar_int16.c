// Depthwise convolution on int16 codes, NHWC: output channel o sees input channel o / m alone.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static size_t scratch_size(const uf_node *node) { return (size_t)node->output->shape[3] * sizeof(int64_t); }

// Adds one tap to the accumulators of all output channels.
static void add_tap(const int16_t *restrict x, const int8_t *restrict w, int32_t inputs, int32_t times,
                    int64_t *restrict sums) {
  if (times == 1) {
    for (int32_t c = 0; c < inputs; ++c) sums[c] += x[c] * w[c];
    return;
  }
  for (int32_t c = 0; c < inputs; ++c) {
    for (int32_t o = c * times; o < (c + 1) * times; ++o) sums[o] += x[c] * w[o];
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const int32_t inputs = node->inputs[0]->shape[3], channels = node->output->shape[3];
  int64_t *sums = uf_scratch(node, thread);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    memcpy(sums, linear->wide_bias, (size_t)channels * sizeof(int64_t));
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const int8_t *weight = linear->weight + ((int64_t)i * window->kernel_w + j) * channels;
        add_tap(uf_words(uf_tap(node, window, &pixel, i, j)), weight, inputs, channels / inputs, sums);
      }
    }
    uf_emit_words(linear, sums, 0, channels, uf_words_of(node->output) + index * channels);
  }
}

UF_DEFINE_KERNEL(depthwise_conv2d, .storage = UF_WORDS, .scratch_size = scratch_size, .run = run);
