// Maximum pooling, 64 channels at a time in a register.

#include "../scalar.h"
#include "../tile_avx512vnni.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_window *window = &node->params.window;
  const int32_t channels = node->output->shape[3];
  const int64_t step = (int64_t)window->dilation_w * channels;
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    for (int32_t c = 0; c < channels; c += UF_TILE_CHANNELS) {
      const __mmask64 mask = uf_first_bytes(channels - c);
      __m512i most = _mm512_setzero_si512();  // the least byte
      for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
        const uint8_t *x = uf_tap(node, window, &pixel, i, pixel.columns.begin) + c;
        for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j, x += step) {
          most = _mm512_max_epu8(most, _mm512_maskz_loadu_epi8(mask, x));
        }
      }
      _mm512_mask_storeu_epi8(node->output->data + index * channels + c, mask, most);
    }
  }
}

const uf_kernel max_pool2d__avx512vnni = {
    .name = "max_pool2d__avx512vnni",
    .level = UF_AVX512VNNI,
    .run = run,
};
