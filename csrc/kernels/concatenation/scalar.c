// Concatenation along one axis: all inputs share the output's QParams, so bytes only move.

#include <string.h>

#include "kernel.h"

static void run(const uf_node *node, int thread, int threads) {
  const int axis = node->params.move.axis;
  const uf_tensor *output = node->output;
  const int64_t stride = uf_volume(output, axis, output->rank) * output->width;
  const uf_range rows = uf_share(uf_volume(output, 0, axis), 1, thread, threads);
  uint8_t *out = output->data;
  for (int32_t i = 0; i < node->input_count; ++i) {
    const uf_tensor *input = node->inputs[i];
    const int64_t width = uf_volume(input, axis, input->rank) * input->width;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      memcpy(out + row * stride, input->data + row * width, (size_t)width);
    }
    out += width;
  }
}

UF_DEFINE_KERNEL(concatenation, .storage = UF_ANY_STORAGE, .run = run);
