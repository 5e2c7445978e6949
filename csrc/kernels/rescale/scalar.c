// Rescaling from one tensor's QParams to another's: a function of one byte, so a table of 256.

#include "../table.h"

static size_t packed_size(const uf_node *node) {
  (void)node;
  return UF_TABLE;
}

static void pack(const uf_node *node, void *packed) {
  const uf_scale *scale = &node->params.scale;
  uint8_t *table = packed;
  for (int32_t byte = 0; byte < UF_TABLE; ++byte) {
    table[byte] = uf_emit(byte - scale->input_zero_point[0], scale->multiplier, scale->shift, &scale->output);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_table_run(node, node->packed, thread, threads); }

UF_DEFINE_KERNEL(rescale, .packed_size = packed_size, .pack = pack, .run = run);
