// Maximum pooling over the cells inside the image. Codes compare as the reals they stand for.

#include "../scalar.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_window *window = &node->params.window;
  const int32_t channels = node->output->shape[3];
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    uint8_t *restrict out = node->output->data + index * channels;
    memset(out, 0, (size_t)channels);  // the least byte
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const uint8_t *restrict x = uf_tap(node, window, &pixel, i, j);
        for (int32_t c = 0; c < channels; ++c) out[c] = x[c] > out[c] ? x[c] : out[c];
      }
    }
  }
}

UF_DEFINE_KERNEL(max_pool2d, .run = run);
