// What softmax and its logarithm share: exponentials of the differences to a row's maximum, and their sum (C99).

#ifndef UNFLOAT_KERNELS_SOFTMAX_DIFFERENCES_H_
#define UNFLOAT_KERNELS_SOFTMAX_DIFFERENCES_H_

#include "kernel.h"

enum { DIFF_INTEGER_BITS = 5, SUM_INTEGER_BITS = 12, DIFFERENCES = 256 };

// A difference of codes, given by its magnitude, in Q5.26.
static inline int32_t scaled_difference(const uf_softmax *softmax, int32_t magnitude) {
  return qmath_srdhm(qmath_shift_left(-magnitude, softmax->shift), softmax->multiplier);
}

static inline size_t packed_size(const uf_node *node) {
  (void)node;
  return DIFFERENCES * sizeof(int32_t);
}

// exp of every difference, by its magnitude; 0 below diff_min, where the sum would not notice.
static inline void pack(const uf_node *node, void *packed) {
  const uf_softmax *softmax = &node->params.softmax;
  int32_t *exponentials = packed;
  for (int32_t difference = 0; difference < DIFFERENCES; ++difference) {
    const int32_t scaled = scaled_difference(softmax, difference);
    exponentials[difference] =
        -difference < softmax->diff_min ? 0 : qmath_exp_on_negative_values(scaled, DIFF_INTEGER_BITS);
  }
}

static inline uint8_t greatest(const uint8_t *x, int32_t count) {
  uint8_t max = 0;
  for (int32_t i = 0; i < count; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

static inline int32_t sum_of(const int32_t *exponentials, uint8_t max, const uint8_t *x, int32_t count) {
  int32_t sum = 0;
  for (int32_t i = 0; i < count; ++i) {
    sum += qmath_rounding_divide_by_pot(exponentials[max - x[i]], SUM_INTEGER_BITS);
  }
  return sum;
}

#endif  // UNFLOAT_KERNELS_SOFTMAX_DIFFERENCES_H_
