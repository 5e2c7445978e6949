// Leaky ReLU and the absolute value: functions of one byte, so a table of 256.

#include "../slopes.h"
#include "../table.h"

static size_t packed_size(const uf_node *node) {
  (void)node;
  return UF_TABLE;
}

static void pack(const uf_node *node, void *packed) {
  const uf_slopes *slopes = &node->params.slopes;
  uint8_t *table = packed;
  for (int32_t byte = 0; byte < UF_TABLE; ++byte) {
    table[byte] = (uint8_t)uf_slopes_code(byte - slopes->input_zero_point[0], slopes->below_sign, slopes);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_table_run(node, node->packed, thread, threads); }

UF_DEFINE_KERNEL(slopes, .packed_size = packed_size, .pack = pack, .run = run);
