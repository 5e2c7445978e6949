// Addition: both inputs are brought to a common scale with head-room, added, and rescaled (eq. 21).

#include "../broadcast.h"
#include "rescaled.h"

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(uf_rescaled);
}

static void pack(const uf_node *node, void *packed) { uf_rescale_inputs(&node->params.add, packed); }

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_add add = node->params.add;
  for (int64_t i = 0; i < count; ++i) out[i] = uf_add_bytes(&add, node->packed, a[i], b[i]);
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(UF_FAMILY, .packed_size = packed_size, .pack = pack, .run = run, .span = span);
