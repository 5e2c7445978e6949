// Softmax over the last axis in fixed point (TFLite's reference kernel; the paper's appendix A.1): differences to the
// row's maximum in Q5.26, exponentials in Q0.31, their sum in Q12.19. The output's scale is 1/256 and its least code
// stands for 0, which is byte 0 for int8 and uint8 alike.

#include <string.h>

#include "kernel.h"

enum { DIFF_INTEGER_BITS = 5, SUM_INTEGER_BITS = 12, DIFFERENCES = 256 };

static size_t packed_size(const uf_node *node) {
  (void)node;
  return DIFFERENCES * sizeof(int32_t);
}

// exp of every difference, by its magnitude; 0 below diff_min, where the sum would not notice.
static void pack(const uf_node *node, void *packed) {
  const uf_softmax *softmax = &node->params.softmax;
  int32_t *exponentials = packed;
  for (int32_t difference = 0; difference < DIFFERENCES; ++difference) {
    const int32_t lifted = qmath_shift_left(-difference, softmax->shift);
    const int32_t scaled = qmath_srdhm(lifted, softmax->multiplier);
    exponentials[difference] =
        -difference < softmax->diff_min ? 0 : qmath_exp_on_negative_values(scaled, DIFF_INTEGER_BITS);
  }
}

static uint8_t greatest(const uint8_t *x, int32_t count) {
  uint8_t max = 0;
  for (int32_t i = 0; i < count; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

static int32_t sum_of(const int32_t *exponentials, uint8_t max, const uint8_t *x, int32_t count) {
  int32_t sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    sum += qmath_rounding_divide_by_pot(exponentials[max - x[i]], SUM_INTEGER_BITS);
  }
  return sum;
}

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
