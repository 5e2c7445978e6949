// The cells of an axis that a list of indices names.

#include <string.h>

#include "kernel.h"

// Rows of one axis: [rows][cells][inner bytes].
static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const uf_move *gather = &node->params.move;
  const int axis = gather->axis;
  const int64_t cells = output->shape[axis], inner = uf_volume(output, axis + 1, output->rank) * output->width;
  const uf_range share = uf_share(uf_volume(output, 0, axis) * cells, 1, thread, threads);
  for (int64_t at = share.begin; at < share.end; ++at) {
    const int64_t from = at / cells * input->shape[axis] + gather->indices[at % cells];
    uint8_t *out = output->data + at * inner;
    if (inner == 1) {
      *out = input->data[from];  // a copy of a length that is known is one instruction
    } else {
      memcpy(out, input->data + from * inner, (size_t)inner);
    }
  }
}

UF_DEFINE_KERNEL(gather, .storage = UF_ANY_STORAGE, .run = run);
