// Rows over their Euclidean norm, in steps of 1/128 (TFLite's reference kernel).

#include "kernel.h"
#include "qmath_functions.h"

enum { OUTPUT_BITS = 7 };

static void normalize_row(int32_t zero_point, int32_t offset, const uint8_t *x, uint8_t *out, int32_t count) {
  int32_t squares = 0;
  for (int32_t i = 0; i < count; ++i) squares += (x[i] - zero_point) * (x[i] - zero_point);
  const qmath_factor factor = qmath_inverse_square_root(squares);
  for (int32_t i = 0; i < count; ++i) {
    const int32_t steps = qmath_requantize_double(x[i] - zero_point, factor.multiplier, factor.shift + OUTPUT_BITS);
    out[i] = (uint8_t)(qmath_clamp(steps, INT8_MIN, INT8_MAX) + offset);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *output = node->output;
  const int last = output->rank - 1;
  const int32_t count = output->shape[last], zero_point = node->params.scale.input_zero_point[0];
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    normalize_row(zero_point, output->offset, node->inputs[0]->data + row * count, output->data + row * count, count);
  }
}

UF_DEFINE_KERNEL(l2_normalization, .run = run);
