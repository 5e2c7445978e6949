// Average pooling of int16 codes: the mean of the cells inside the image, ties away from code 0.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static size_t scratch_size(const uf_node *node) { return (size_t)node->output->shape[3] * sizeof(int32_t); }

static void run(const uf_node *node, int thread, int threads) {
  const uf_window *window = &node->params.window;
  const int32_t channels = node->output->shape[3];
  int32_t *sums = uf_scratch(node, thread);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    int16_t *out = uf_words_of(node->output) + index * channels;
    memset(sums, 0, (size_t)channels * sizeof(int32_t));
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const int16_t *x = uf_words(uf_tap(node, window, &pixel, i, j));
        for (int32_t c = 0; c < channels; ++c) sums[c] += x[c];
      }
    }
    const int32_t count = (pixel.rows.end - pixel.rows.begin) * (pixel.columns.end - pixel.columns.begin);
    for (int32_t c = 0; c < channels; ++c) out[c] = (int16_t)qmath_average(sums[c], count);
  }
}

UF_DEFINE_KERNEL(average_pool2d, .storage = UF_WORDS, .scratch_size = scratch_size, .run = run);
