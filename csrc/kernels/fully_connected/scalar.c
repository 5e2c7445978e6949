// Fully connected: out[r, o] = bias[o] + sum (w[o, k] - Zw) * (x[r, k] - Zx) over k; all axes but the last are rows.

#include "../scalar.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int32_t depth = input->shape[input->rank - 1], channels = output->shape[output->rank - 1];
  const uf_range share = uf_share(uf_size(output), 1, thread, threads);
  for (int64_t at = share.begin; at < share.end; ++at) {
    const int64_t row = at / channels, o = at % channels;
    const int32_t sum = uf_dot(input->data + row * depth, linear->weight + o * depth, depth, linear);
    output->data[at] = uf_emit_channel(linear, o, linear->bias[o] + sum);
  }
}

const uf_kernel fully_connected__scalar = {.name = "fully_connected__scalar", .level = UF_SCALAR, .run = run};
