// Multiplication: the product of two differences, rescaled.

#include "../broadcast.h"

static void span(const uf_node *node, const uint8_t *a, int64_t step_a, const uint8_t *b, int64_t step_b, uint8_t *out,
                 int64_t count) {
  const uf_scale mul = node->params.scale;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t product = (a[i * step_a] - mul.input_zero_point[0]) * (b[i * step_b] - mul.input_zero_point[1]);
    out[i] = uf_emit(product, mul.multiplier, mul.shift, &mul.output);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

const uf_kernel mul__scalar = {.name = "mul__scalar", .level = UF_SCALAR, .run = run};
