// Leaky ReLU and the absolute value of int16 codes.

#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR

#include "../slopes.h"
#include "../words.h"

static void run(const uf_node *node, int thread, int threads) {
  const uf_slopes slopes = node->params.slopes;
  const int16_t *x = uf_words(node->inputs[0]->data);
  int16_t *out = uf_words_of(node->output);
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) out[i] = (int16_t)uf_slopes_code(x[i], slopes.below_sign, &slopes);
}

UF_DEFINE_KERNEL(slopes, .storage = UF_WORDS, .run = run);
