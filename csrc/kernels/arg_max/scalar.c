// The index of the greatest code along an axis, the first of equals, as an int16 code.

#include "kernel.h"

// One index: `size` codes, each `stride` codes after the one before.
static int16_t first_greatest(const uint8_t *x, int32_t width, int32_t size, int64_t stride) {
  int32_t best = 0;
  if (width == 2) {
    const int16_t *words = (const int16_t *)(const void *)x;
    for (int32_t i = 1; i < size; ++i) best = words[i * stride] > words[best * stride] ? i : best;
  } else {
    for (int32_t i = 1; i < size; ++i) best = x[i * stride] > x[best * stride] ? i : best;
  }
  return (int16_t)best;
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0];
  const int axis = node->params.move.axis;
  const int32_t size = input->shape[axis];
  const int64_t inner = uf_volume(input, axis + 1, input->rank);
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  int16_t *out = (int16_t *)(void *)node->output->data;
  for (int64_t at = share.begin; at < share.end; ++at) {
    const uint8_t *x = input->data + (at / inner * size * inner + at % inner) * input->width;
    out[at] = first_greatest(x, input->width, size, inner);
  }
}

UF_DEFINE_KERNEL(arg_max, .storage = UF_ANY_STORAGE, .run = run);
