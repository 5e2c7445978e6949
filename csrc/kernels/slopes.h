// Two straight lines that meet at 0 (eq. 48).

#ifndef UNFLOAT_KERNELS_SLOPES_H_
#define UNFLOAT_KERNELS_SLOPES_H_

#include "kernel.h"

// The code of a step `q - Z`; `slope` is what steps below 0 are multiplied by.
static inline int32_t uf_slopes_code(int32_t step, int32_t slope, const uf_slopes *slopes) {
  const uf_output *output = &slopes->output;
  const int32_t steps =
      step < 0 ? qmath_requantize(step * slope, slopes->below_multiplier, slopes->below_shift, output->rounding)
               : qmath_requantize(step, slopes->multiplier, slopes->shift, output->rounding);
  return qmath_clamp_sum(steps, output->zero_point, output->clamp_min, output->clamp_max);
}

#endif  // UNFLOAT_KERNELS_SLOPES_H_
