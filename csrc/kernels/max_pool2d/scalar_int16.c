// Maximum pooling of int16 codes over the cells inside the image.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_window *window = &node->params.window;
  const int32_t channels = node->output->shape[3];
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    int16_t *restrict out = uf_words_of(node->output) + index * channels;
    for (int32_t c = 0; c < channels; ++c) out[c] = INT16_MIN;
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const int16_t *restrict x = uf_words(uf_tap(node, window, &pixel, i, j));
        for (int32_t c = 0; c < channels; ++c) out[c] = x[c] > out[c] ? x[c] : out[c];
      }
    }
  }
}

UF_DEFINE_KERNEL(max_pool2d, .storage = UF_WORDS, .run = run);
