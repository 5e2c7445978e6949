// Addition: both inputs are brought to a common scale with head-room, added, and rescaled.

#include "../broadcast.h"

typedef struct {
  int32_t rescaled[2][256];  // of every byte of each input
} tables;

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(tables);
}

// The rescaling of an input depends on its byte alone, so it is made once for all 256 of them.
static void pack(const uf_node *node, void *packed) {
  const uf_add *add = &node->params.add;
  tables *table = packed;
  for (int i = 0; i < 2; ++i) {
    for (int32_t byte = 0; byte < 256; ++byte) {
      const int32_t lifted = qmath_shift_left(byte - add->input_zero_point[i], add->left_shift);
      table->rescaled[i][byte] =
          qmath_requantize(lifted, add->input_multiplier[i], add->input_shift[i], add->output.rounding);
    }
  }
}

static void span(const uf_node *node, const uint8_t *a, int64_t step_a, const uint8_t *b, int64_t step_b, uint8_t *out,
                 int64_t count) {
  const uf_add add = node->params.add;
  const tables *table = node->packed;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t sum = table->rescaled[0][a[i * step_a]] + table->rescaled[1][b[i * step_b]];
    out[i] = uf_emit(sum, add.multiplier, add.shift, &add.output);
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

const uf_kernel add__scalar = {
    .name = "add__scalar", .level = UF_SCALAR, .packed_size = packed_size, .pack = pack, .run = run};
