// What the vector levels need to know of an output channel of a linear operator (C11).

#ifndef UNFLOAT_KERNELS_CHANNEL_H_
#define UNFLOAT_KERNELS_CHANNEL_H_

#include "kernel.h"
#include "qmath_absorb.h"

// The sums of a channel's negative and positive weights: all that its bounds and its zero point correction depend on.
typedef struct {
  int64_t negative, positive;
} uf_weight_sums;

static inline void uf_add_weight(uf_weight_sums *sums, int8_t weight) {
  if (weight < 0) {
    sums->negative += weight;
  } else {
    sums->positive += weight;
  }
}

// Whether no weight is less than `least`: -127 where two products are added in 16 bits. Files made by others may hold
// -128.
static inline bool uf_weights_reach(const int8_t *weight, int64_t count, int least) {
  for (int64_t i = 0; least > INT8_MIN && i < count; ++i) {
    if (weight[i] < least) return false;
  }
  return true;
}

// The accumulator's value before any product, for which padding counts as zero.
static inline int64_t uf_start_of(const uf_linear *linear, int64_t channel, const uf_weight_sums *sums) {
  return linear->bias[channel] - linear->input_zero_point * (sums->negative + sums->positive);
}

static inline qmath_channel uf_channel_of(const uf_linear *linear, int64_t channel, const uf_weight_sums *sums) {
  const uf_output *output = &linear->output;
  const int64_t start = uf_start_of(linear, channel, sums);
  const qmath_channel result = {
      .multiplier = linear->multiplier[channel],
      .shift = linear->shift[channel],
      .rounding = output->rounding,
      .zero_point = output->zero_point,
      .clamp_min = output->clamp_min,
      .clamp_max = output->clamp_max,
      .low = start + UINT8_MAX * sums->negative,
      .high = start + UINT8_MAX * sums->positive,
  };
  return result;
}

#endif  // UNFLOAT_KERNELS_CHANNEL_H_
