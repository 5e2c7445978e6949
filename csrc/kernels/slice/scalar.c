// Every stride-th cell of each axis, forwards or backwards.

#include "../strided.h"

// Where output row `row` (an index over all axes but the last) begins in the input.
static int64_t source(const uf_node *node, int64_t row) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const uf_move *slice = &node->params.move;
  const int last = output->rank - 1;
  int64_t offset = slice->before[last], stride = input->shape[last];
  for (int axis = last - 1; axis >= 0; row /= output->shape[axis--]) {
    offset += (slice->before[axis] + row % output->shape[axis] * slice->stride[axis]) * stride;
    stride *= input->shape[axis];
  }
  return offset;
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int last = output->rank - 1;
  const int32_t width = output->width, count = output->shape[last];
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const uint8_t *x = input->data + source(node, row) * width;
    uf_copy_strided(x, node->params.move.stride[last], width, output->data + row * count * width, count);
  }
}

UF_DEFINE_KERNEL(slice, .storage = UF_ANY_STORAGE, .run = run);
