// Bilinear resizing of images (C99). The file that includes it has defined CODE (the type of a byte or a word), SUM (of
// codes times 2^20) and STORAGE.

#include "kernel.h"
#include "qmath_resize.h"

// One pixel: `taps` are its four cells, first row first, and `shares` add up to 2^20. Rounding looks at the code
// itself, so the byte's offset is undone first.
static void blend(const CODE *const *taps, const int32_t *shares, int32_t offset, int32_t channels, CODE *out) {
  for (int32_t c = 0; c < channels; ++c) {
    SUM sum = 0;
    for (int tap = 0; tap < 4; ++tap) sum += (SUM)(taps[tap][c] - offset) * shares[tap];
    out[c] = (CODE)(qmath_resize_round(sum) + offset);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int32_t channels = input->shape[3];
  const int64_t line = (int64_t)input->shape[2] * channels;
  const uf_range rows = uf_share((int64_t)output->shape[0] * output->shape[1], 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const qmath_between y = qmath_resize_at(&node->params.resize.rows, (int32_t)(row % output->shape[1]));
    const CODE *image = (const CODE *)(const void *)input->data + row / output->shape[1] * input->shape[1] * line;
    const CODE *upper = image + y.first * line, *lower = image + y.second * line;
    CODE *out = (CODE *)(void *)output->data + row * output->shape[2] * channels;
    for (int32_t column = 0; column < output->shape[2]; ++column, out += channels) {
      const qmath_between x = qmath_resize_at(&node->params.resize.columns, column);
      const int64_t left = (int64_t)x.first * channels, right = (int64_t)x.second * channels;
      const int32_t up = QMATH_RESIZE_ONE - y.share, near = QMATH_RESIZE_ONE - x.share;
      const CODE *const taps[] = {upper + left, upper + right, lower + left, lower + right};
      const int32_t shares[] = {up * near, up * x.share, y.share * near, y.share * x.share};
      blend(taps, shares, output->offset, channels, out);
    }
  }
}

UF_DEFINE_KERNEL(resize_bilinear, .storage = STORAGE, .run = run);
