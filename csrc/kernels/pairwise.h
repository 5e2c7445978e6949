// One of two codes, with broadcasting (C99). Codes compare as the reals they stand for. The file that includes it has
// defined FAMILY, CODE (the type of a byte or a word), STORAGE and PICK(a, b).

#include "broadcast.h"

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  (void)node;
  const CODE *first = (const CODE *)(const void *)a, *second = (const CODE *)(const void *)b;
  CODE *picked = (CODE *)(void *)out;
  for (int64_t i = 0; i < count; ++i) picked[i] = PICK(first[i], second[i]);
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(FAMILY, .storage = STORAGE, .run = run);
