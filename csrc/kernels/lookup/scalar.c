// Functions of one byte whose table the instruction brings.

#include "../table.h"

static void run(const uf_node *node, int thread, int threads) {
  uf_table_run(node, node->params.lookup.bytes, thread, threads);
}

UF_DEFINE_KERNEL(lookup, .run = run);
