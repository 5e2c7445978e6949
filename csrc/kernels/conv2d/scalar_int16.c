// Convolution on int16 codes, NHWC: acc[o] = bias[o] + sum w * x over the window's taps inside the image (eq. 13).

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static int64_t patch_size(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  return (int64_t)window->kernel_h * window->kernel_w * node->inputs[0]->shape[3];
}

static size_t scratch_size(const uf_node *node) {
  return (size_t)node->output->shape[3] * sizeof(int64_t) + (size_t)patch_size(node) * sizeof(int16_t);
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3], per_group = channels / linear->groups;
  const int64_t count = patch_size(node) / linear->groups;
  int64_t *sums = uf_scratch(node, thread);
  int16_t *patch = (int16_t *)(sums + channels);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, &linear->window, index);
    uf_gather_words(node, &pixel, patch);
    for (int32_t o = 0; o < channels; ++o) {
      sums[o] = uf_dot_words(linear->wide_bias[o], patch + o / per_group * count, linear->weight + o * count, count);
    }
    uf_emit_words(linear, sums, 0, channels, uf_words_of(node->output) + index * channels);
  }
}

UF_DEFINE_KERNEL(conv2d, .storage = UF_WORDS, .scratch_size = scratch_size, .run = run);
