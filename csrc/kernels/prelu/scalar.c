// PReLU: a value times its slope below 0.

#include "../broadcast.h"
#include "../slopes.h"

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_slopes slopes = node->params.slopes;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t step = a[i] - slopes.input_zero_point[0], slope = b[i] - slopes.input_zero_point[1];
    out[i] = (uint8_t)uf_slopes_code(step, slope, &slopes);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(prelu, .run = run, .span = span);
