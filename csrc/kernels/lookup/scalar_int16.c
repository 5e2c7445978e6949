// Curves through int16 codes.

#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR

#include "../words.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_lookup lookup = node->params.lookup;
  const int16_t *x = uf_words(node->inputs[0]->data);
  int16_t *out = uf_words_of(node->output);
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    out[i] = (int16_t)qmath_along_curve(x[i], lookup.ends, &lookup.curve);
  }
}

UF_DEFINE_KERNEL(lookup, .storage = UF_WORDS, .run = run);
