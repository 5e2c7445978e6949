// Softmax on int16 codes over the last axis (TFLite's reference kernel): exponentials in Q0.15 and the reciprocal of
// their sum are read off tables of 513 points.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"
#include "qmath_functions.h"

typedef struct {
  int16_t exponential[QMATH_TABLE], reciprocal[QMATH_TABLE];
} tables;

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(tables);
}

static void pack(const uf_node *node, void *packed) {
  (void)node;
  tables *made = packed;
  qmath_set_exponential_table(made->exponential);
  qmath_set_reciprocal_table(made->reciprocal);
}

static int16_t greatest(const int16_t *x, int32_t count) {
  int16_t max = x[0];
  for (int32_t i = 1; i < count; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

// Writes the exponentials; returns their sum, Q16.15.
static int32_t exponentials(const uf_softmax *softmax, const tables *with, const int16_t *x, int16_t *out,
                            int32_t count) {
  const int16_t max = greatest(x, count);
  int32_t sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t steps = qmath_requantize_double(x[i] - max, softmax->multiplier, softmax->shift);
    out[i] = (int16_t)qmath_interpolate(with->exponential, qmath_clamp_sum(steps, INT16_MAX, INT16_MIN, INT16_MAX));
    sum += out[i];
  }
  return sum;
}

static void softmax_row(const uf_node *node, const int16_t *x, int16_t *out, int32_t count) {
  const tables *with = node->packed;
  const int32_t sum = exponentials(&node->params.softmax, with, x, out, count);
  const int32_t inverse = qmath_interpolate(with->reciprocal, qmath_beyond_one(sum));
  for (int32_t i = 0; i < count; ++i) out[i] = (int16_t)qmath_over_sum(out[i], inverse, sum);
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *output = node->output;
  const int last = output->rank - 1;
  const int32_t count = output->shape[last];
  const uf_range rows = uf_share(uf_volume(output, 0, last), 1, thread, threads);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    softmax_row(node, uf_words(node->inputs[0]->data) + row * count, uf_words_of(output) + row * count, count);
  }
}

UF_DEFINE_KERNEL(softmax, .storage = UF_WORDS, .packed_size = packed_size, .pack = pack, .run = run);
