// Multiplication: the product of two differences, rescaled.

#include "../broadcast.h"

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_scale mul = node->params.scale;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t product = (a[i] - mul.input_zero_point[0]) * (b[i] - mul.input_zero_point[1]);
    out[i] = uf_emit(product, mul.multiplier, mul.shift, &mul.output);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(mul, .run = run, .span = span);
