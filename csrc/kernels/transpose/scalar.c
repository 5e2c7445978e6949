// A permutation of axes, the batch staying first.

#include "../strided.h"

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
    const int32_t width = output->width, count = output->shape[last];
    uf_copy_strided(input->data + offset * width, stride[last], width, output->data + row * count * width, count);
  }
}

UF_DEFINE_KERNEL(transpose, .storage = UF_ANY_STORAGE, .run = run);
