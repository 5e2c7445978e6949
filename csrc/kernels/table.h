// Functions of one byte: a table of 256.

#ifndef UNFLOAT_KERNELS_TABLE_H_
#define UNFLOAT_KERNELS_TABLE_H_

#include "kernel.h"

enum { UF_TABLE = 256 };

static inline void uf_table_run(const uf_node *node, const uint8_t *table, int thread, int threads) {
  const uint8_t *x = node->inputs[0]->data;
  uint8_t *out = node->output->data;
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) out[i] = table[x[i]];
}

#endif  // UNFLOAT_KERNELS_TABLE_H_
