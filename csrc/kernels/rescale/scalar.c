// Rescaling from one tensor's QParams to another's: a function of one byte, so a table of 256.

#include "kernel.h"

static size_t packed_size(const uf_node *node) {
  (void)node;
  return 256;
}

static void pack(const uf_node *node, void *packed) {
  const uf_scale *scale = &node->params.scale;
  uint8_t *table = packed;
  for (int32_t byte = 0; byte < 256; ++byte) {
    table[byte] = uf_emit(byte - scale->input_zero_point[0], scale->multiplier, scale->shift, &scale->output);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uint8_t *table = node->packed, *x = node->inputs[0]->data;
  uint8_t *out = node->output->data;
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) out[i] = table[x[i]];
}

UF_DEFINE_KERNEL(rescale, .packed_size = packed_size, .pack = pack, .run = run);
