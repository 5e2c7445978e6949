// Multiplication of int16 codes: their product, rescaled.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../broadcast.h"
#include "../words.h"

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_scale mul = node->params.scale;
  const int16_t *first = uf_words(a), *second = uf_words(b);
  int16_t *products = (int16_t *)(void *)out;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t scaled = qmath_requantize(first[i] * second[i], mul.multiplier, mul.shift, mul.output.rounding);
    products[i] = (int16_t)qmath_clamp(scaled, mul.output.clamp_min, mul.output.clamp_max);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(mul, .storage = UF_WORDS, .run = run, .span = span);
