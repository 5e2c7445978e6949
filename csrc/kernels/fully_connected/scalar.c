// Fully connected: out[r, o] = bias[o] + sum (w[o, k] - Zw) * (x[r, k] - Zx) over k; all axes but the last are rows.

#include "../scalar.h"

static size_t scratch_size(const uf_node *node) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const size_t depth = (size_t)input->shape[input->rank - 1], channels = (size_t)output->shape[output->rank - 1];
  return channels * sizeof(int32_t) + depth * sizeof(int16_t);
}

// A thread's share is of output channels: there are many of them, and often one row.
static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int64_t depth = input->shape[input->rank - 1], channels = output->shape[output->rank - 1];
  const int64_t rows = uf_size(output) / channels;
  const uf_range share = uf_share(channels, 1, thread, threads);
  int32_t *sums = uf_scratch(node, thread);
  int16_t *x = (int16_t *)(sums + channels);
  for (int64_t row = 0; row < rows; ++row) {
    uf_widen(input->data + row * depth, depth, linear->input_zero_point, x);
    for (int64_t o = share.begin; o < share.end; ++o) {
      sums[o] = UF_DOT(node, o, x, depth);
    }
    uf_emit_channels(linear, sums + share.begin, share.begin, share.end - share.begin,
                     output->data + row * channels + share.begin);
  }
}

UF_DEFINE_KERNEL(fully_connected, UF_PACKING.scratch_size = scratch_size, .run = run);
