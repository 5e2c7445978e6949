// The greatest or the least code over any axes but the batch (C99). The file that includes it has defined FAMILY, CODE
// (the type of a byte or a word), STORAGE, PICK(a, b) and WORST, the code that loses against every other.

#include "kernel.h"

static CODE pick_row(const CODE *x, int32_t size, CODE best) {
  for (int32_t i = 0; i < size; ++i) best = PICK(best, x[i]);
  return best;
}

static void pick_codes(const CODE *restrict x, int32_t size, CODE *restrict out) {
  for (int32_t i = 0; i < size; ++i) out[i] = PICK(out[i], x[i]);
}

// Reduces one sample into `out`. `stride` is the output's, 0 along a reduced axis.
static void pick_axes(const CODE **x, const uf_tensor *input, const int64_t *stride, int axis, CODE *out) {
  const int32_t size = input->shape[axis];
  if (axis < input->rank - 1) {
    for (int32_t i = 0; i < size; ++i) pick_axes(x, input, stride, axis + 1, out + i * stride[axis]);
    return;
  }
  if (stride[axis] == 0) {
    *out = pick_row(*x, size, *out);
  } else {
    pick_codes(*x, size, out);
  }
  *x += size;
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0];
  int64_t stride[UF_MAX_RANK] = {0}, outputs = 1;
  for (int axis = input->rank - 1; axis > 0; --axis) {
    if (node->params.move.axes & (1u << axis)) continue;
    stride[axis] = outputs;
    outputs *= input->shape[axis];
  }
  const int64_t cells = uf_volume(input, 1, input->rank);
  const uf_range samples = uf_share(input->shape[0], 1, thread, threads);
  for (int64_t sample = samples.begin; sample < samples.end; ++sample) {
    const CODE *x = (const CODE *)(const void *)input->data + sample * cells;
    CODE *out = (CODE *)(void *)node->output->data + sample * outputs;
    for (int64_t i = 0; i < outputs; ++i) out[i] = WORST;
    pick_axes(&x, input, stride, 1, out);
  }
}

UF_DEFINE_KERNEL(FAMILY, .storage = STORAGE, .run = run);
