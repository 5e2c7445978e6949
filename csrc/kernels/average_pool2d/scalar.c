// Average pooling: the mean of the cells inside the image, ties away from code 0, so the byte offset is undone first.

#include "../scalar.h"

static size_t scratch_size(const uf_node *node) { return (size_t)node->output->shape[3] * sizeof(uint32_t); }

// Sums of bytes may wrap; less their offsets they are small again.
static void emit(const uint32_t *sums, int32_t channels, int32_t count, int32_t offset, uint8_t *out) {
  const uint32_t offsets = (uint32_t)count * (uint32_t)offset;
  if (count > QMATH_RECIPROCAL_COUNTS) {
    for (int32_t c = 0; c < channels; ++c) {
      out[c] = (uint8_t)(qmath_average((int32_t)(sums[c] - offsets), count) + offset);
    }
    return;
  }
  const uint32_t reciprocal = qmath_count_reciprocal(count);
  for (int32_t c = 0; c < channels; ++c) {
    out[c] = (uint8_t)(qmath_average_by_reciprocal((int32_t)(sums[c] - offsets), count, reciprocal) + offset);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_window *window = &node->params.window;
  const int32_t channels = node->output->shape[3], offset = node->output->offset;
  uint32_t *sums = uf_scratch(node, thread);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    memset(sums, 0, (size_t)channels * sizeof(uint32_t));
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const uint8_t *x = uf_tap(node, window, &pixel, i, j);
        for (int32_t c = 0; c < channels; ++c) sums[c] += x[c];
      }
    }
    const int32_t count = (pixel.rows.end - pixel.rows.begin) * (pixel.columns.end - pixel.columns.begin);
    emit(sums, channels, count, offset, node->output->data + index * channels);
  }
}

UF_DEFINE_KERNEL(average_pool2d, .scratch_size = scratch_size, .run = run);
