// qmath.h's rescaling of four accumulators at once with Helium, Arm's M-profile vectors (C99). The same integers.

#ifndef UNFLOAT_QMATH_MVE_H_
#define UNFLOAT_QMATH_MVE_H_

#include <arm_mve.h>
#include <stdint.h>

#include "qmath.h"

// qmath_requantize_double of four lanes (eq. 11). VQRDMULH is qmath_srdhm. VRSHL to the right sends ties up; less one
// where the number is negative, it sends them away from zero (eq. 10).
static inline int32x4_t qmath_mve_requantize_double(int32x4_t accumulator, int32x4_t multiplier, int32x4_t shift) {
  const int32x4_t none = vdupq_n_s32(0), left = vmaxq_s32(shift, none), right = vminq_s32(shift, none);
  const int32x4_t high = vqrdmulhq_s32(vshlq_s32(accumulator, left), multiplier);
  const int32x4_t less = vshrq_n_s32(vandq_s32(high, right), 31);
  return vrshlq_s32(vqaddq_s32(high, less), right);
}

// qmath_clamp_sum of four lanes.
static inline int32x4_t qmath_mve_clamp_sum(int32x4_t x, int32_t addend, int32_t low, int32_t high) {
  const int32x4_t raised = vmaxq_s32(x, vdupq_n_s32(low - addend));
  return vaddq_n_s32(vminq_s32(raised, vdupq_n_s32(high - addend)), addend);
}

#endif  // UNFLOAT_QMATH_MVE_H_
