// Constant padding along any axis but the batch.

#include <string.h>

#include "kernel.h"

// The input row that output row `row` (an index over all axes but the last) holds, or NULL where it is padding.
static const uint8_t *source(const uf_node *node, int64_t row) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  int64_t offset = 0, stride = input->shape[input->rank - 1];
  for (int axis = output->rank - 2; axis >= 0; row /= output->shape[axis--]) {
    const int64_t at = row % output->shape[axis] - node->params.move.before[axis];
    if (at < 0 || at >= input->shape[axis]) return NULL;
    offset += at * stride;
    stride *= input->shape[axis];
  }
  return input->data + offset * input->width;
}

static void fill(uint8_t *out, int32_t value, int32_t width, int64_t count) {
  if (width == 1) {
    memset(out, value, (size_t)count);
    return;
  }
  int16_t *words = (int16_t *)(void *)out;
  for (int64_t i = 0; i < count; ++i) words[i] = (int16_t)value;
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_move *pad = &node->params.move;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int last = output->rank - 1;
  const size_t size = (size_t)output->width;
  const size_t width = (size_t)output->shape[last] * size, kept = (size_t)input->shape[last] * size;
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const uint8_t *x = source(node, row);
    uint8_t *out = output->data + (size_t)row * width;
    if (x == NULL || kept != width) fill(out, pad->value, output->width, output->shape[last]);
    if (x != NULL) memcpy(out + (size_t)pad->before[last] * size, x, kept);
  }
}

UF_DEFINE_KERNEL(pad, .storage = UF_ANY_STORAGE, .run = run);
