// Fully connected on int16 codes: out[r, o] = bias[o] + sum w[o, k] * x[r, k] over k; all axes but the last are rows.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static size_t scratch_size(const uf_node *node) {
  return (size_t)node->output->shape[node->output->rank - 1] * sizeof(int64_t);
}

// A thread's share is of output channels: there are many of them, and often one row.
static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int64_t depth = input->shape[input->rank - 1], channels = output->shape[output->rank - 1];
  const int64_t rows = uf_size(output) / channels;
  const uf_range share = uf_share(channels, 1, thread, threads);
  int64_t *sums = uf_scratch(node, thread);
  for (int64_t row = 0; row < rows; ++row) {
    const int16_t *x = uf_words(input->data) + row * depth;
    for (int64_t o = share.begin; o < share.end; ++o) {
      sums[o] = uf_dot_words(linear->wide_bias[o], x, linear->weight + o * depth, depth);
    }
    uf_emit_words(linear, sums + share.begin, share.begin, share.end - share.begin,
                  uf_words_of(output) + row * channels + share.begin);
  }
}

UF_DEFINE_KERNEL(fully_connected, .storage = UF_WORDS, .scratch_size = scratch_size, .run = run);
