// Fully connected: out[r, o] = bias[o] + sum (w[o, k] - Zw) * (x[r, k] - Zx) over k; all axes but the last are rows.

#include "../scalar.h"

// A thread's share is of output channels: there are many of them, and often one row.
static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int64_t depth = input->shape[input->rank - 1], channels = output->shape[output->rank - 1];
  const int64_t samples = uf_size(output) / channels;
  const uf_range share = uf_share(channels, 1, thread, threads);
  for (int64_t sample = 0; sample < samples; ++sample) {
    const uint8_t *x = input->data + sample * depth;
    for (int64_t o = share.begin; o < share.end; o += UF_OUTPUTS) {
      const uf_rows rows = {(ptrdiff_t)o, (ptrdiff_t)depth,
                            share.end - o < UF_OUTPUTS ? (int32_t)(share.end - o) : UF_OUTPUTS};
      int32_t sums[UF_OUTPUTS];
      uf_start_sums(linear, &rows, sums);
      UF_ADD_PRODUCTS(node, &rows, 0, x, (ptrdiff_t)depth, sums);
      uf_emit_channels(linear, sums, o, rows.outputs, output->data + sample * channels + o);
    }
  }
}

UF_DEFINE_KERNEL(fully_connected, UF_PACKING.run = run);
