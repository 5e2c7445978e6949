// Addition of int16 codes: both inputs are brought to a common scale with head-room, added, and rescaled (eq. 21).

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../broadcast.h"
#include "../words.h"
#include "rescaled.h"

static inline int32_t raised(const uf_add *add, int input, int16_t code) {
  const int32_t lifted = code * (1 << add->left_shift);
  return qmath_requantize(lifted, add->input_multiplier[input], add->input_shift[input], add->output.rounding);
}

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_add add = node->params.add;
  const int16_t *first = uf_words(a), *second = uf_words(b);
  int16_t *sums = (int16_t *)(void *)out;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t sum = raised(&add, 0, first[i]) + add.sign * raised(&add, 1, second[i]);
    const int32_t scaled = qmath_requantize(sum, add.multiplier, add.shift, add.output.rounding);
    sums[i] = (int16_t)qmath_clamp(scaled, add.output.clamp_min, add.output.clamp_max);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(UF_FAMILY, .storage = UF_WORDS, .run = run, .span = span);
