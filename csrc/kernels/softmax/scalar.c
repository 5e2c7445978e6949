// Softmax over the last axis in fixed point (TFLite's reference kernel; the paper's appendix A.1): differences to the
// row's maximum in Q5.26, exponentials in Q0.31, their sum in Q12.19. The output's scale is 1/256 and its least code
// stands for 0, which is byte 0 for int8 and uint8 alike.

#include <string.h>

#include "differences.h"

static void softmax_row(const int32_t *restrict exponentials, const uint8_t *restrict x, uint8_t *restrict out,
                        int32_t count) {
  const uint8_t max = greatest(x, count);
  const qmath_scaled reciprocal = qmath_reciprocal(sum_of(exponentials, max, x, count), SUM_INTEGER_BITS);
  const int exponent = reciprocal.exponent + 31 - 8;
  if (exponent > 31) {  // a sum of 512 units or more leaves every probability under half a code
    memset(out, 0, (size_t)count);
    return;
  }
  for (int32_t i = 0; i < count; ++i) {
    const int32_t probability = qmath_srdhm(reciprocal.mantissa, exponentials[max - x[i]]);
    out[i] = (uint8_t)qmath_clamp(qmath_rounding_divide_by_pot(probability, exponent), 0, 255);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *output = node->output;
  const int last = output->rank - 1;
  const int32_t count = output->shape[last];
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    softmax_row(node->packed, node->inputs[0]->data + row * count, output->data + row * count, count);
  }
}

UF_DEFINE_KERNEL(softmax, .packed_size = packed_size, .pack = pack, .run = run);
