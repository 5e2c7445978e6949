// The logarithm of softmax over the last axis in fixed point (TFLite's reference kernel): the output's scale is 1/16
// and its greatest code stands for 0.

#include "../softmax/differences.h"
#include "qmath_functions.h"

enum { OUTPUT_SHIFT = 31 - 5 - 4 };  // from Q5.26 to steps of 1/16

static void log_softmax_row(const uf_node *node, const uint8_t *x, uint8_t *out, int32_t count) {
  const uf_softmax *softmax = &node->params.softmax;
  const uint8_t max = greatest(x, count);
  const int32_t log_sum = qmath_logarithm(sum_of(node->packed, max, x, count));
  const int32_t least =
      qmath_requantize_double(log_sum + INT32_MIN, softmax->reverse_multiplier, softmax->reverse_shift);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t difference = x[i] - max;
    const int32_t scaled = scaled_difference(softmax, -difference);
    if (difference < softmax->diff_min || difference <= least || scaled < log_sum + INT32_MIN) {
      out[i] = 0;
      continue;
    }
    const int32_t steps = qmath_rounding_divide_by_pot(scaled - log_sum, OUTPUT_SHIFT);
    out[i] = (uint8_t)qmath_clamp(steps + UINT8_MAX, 0, UINT8_MAX);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *output = node->output;
  const int last = output->rank - 1;
  const int32_t count = output->shape[last];
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    log_softmax_row(node, node->inputs[0]->data + row * count, output->data + row * count, count);
  }
}

UF_DEFINE_KERNEL(log_softmax, .packed_size = packed_size, .pack = pack, .run = run);
