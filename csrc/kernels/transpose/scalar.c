// A permutation of axes, the batch staying first.

#include <string.h>

#include "kernel.h"

static void copy_row(const uint8_t *x, int64_t stride, uint8_t *out, int32_t count) {
  if (stride == 1) {
    memcpy(out, x, (size_t)count);
    return;
  }
  for (int32_t i = 0; i < count; ++i) out[i] = x[i * stride];
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int last = output->rank - 1;
  int64_t stride[UF_MAX_RANK];  // of the input, along each axis of the output
  for (int axis = 0; axis <= last; ++axis) {
    stride[axis] = uf_volume(input, node->params.move.permutation[axis] + 1, input->rank);
  }
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t offset = 0, rest = row;
    for (int axis = last - 1; axis >= 0; rest /= output->shape[axis--]) {
      offset += rest % output->shape[axis] * stride[axis];
    }
    copy_row(input->data + offset, stride[last], output->data + row * output->shape[last], output->shape[last]);
  }
}

UF_DEFINE_KERNEL(transpose, .run = run);
