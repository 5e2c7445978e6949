// Vector forms of qmath.h for Arm's Advanced SIMD (C11): rescaling 4 accumulators to bytes, with the bits of
// qmath_requantize.
//
// The *absorbed* form (see qmath_absorb.h) is what kernels run nearly always; its shift is the channel's own, which
// keeps the multiplier whole. The *exact* form follows the definition and takes any multiplier and shift.

#ifndef UNFLOAT_QMATH_NEON_H_
#define UNFLOAT_QMATH_NEON_H_

#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>

#include "qmath.h"
#include "qmath_absorb.h"

// Constants of 4 channels. Shifts are to the left: negative ones go to the right.
typedef struct {
  uint32_t factor[4];
  int32_t shift[4];  // of the products' high halves
  int32_t bend[4];   // accumulator + offset below it: the accumulator is negative, and bent channels add this:
  int32_t bend_offset[4];
} qmath_absorbed4;

typedef struct {
  int32_t multiplier[4];
  int32_t left[4];
  int64_t nudge[4];  // the roundings' constants
  int64_t sign[4];   // 2^31 where a negative high product loses one (double rounding, right shift): ties away from 0
  int64_t shift[4];
  int32_t floor[4];  // the clamp's bounds before the zero point is added, which are small numbers
  int32_t ceiling[4];
  int32_t zero_point[4];
} qmath_exact4;

// `bits` is the shift that the channel was absorbed at, at least 32.
static inline void qmath_absorbed4_set(qmath_absorbed4 *lanes, int lane, const qmath_absorbed *absorbed, int bits) {
  lanes->factor[lane] = (uint32_t)absorbed->factor;
  lanes->shift[lane] = 32 - bits;
  lanes->bend[lane] = (int32_t)absorbed->offset;
  lanes->bend_offset[lane] = (int32_t)(absorbed->negative_offset - absorbed->offset);
}

static inline void qmath_exact4_set(qmath_exact4 *lanes, int lane, const qmath_channel *channel) {
  const qmath_exact exact = qmath_exact_of(channel);
  lanes->multiplier[lane] = channel->multiplier;
  lanes->left[lane] = exact.left;
  lanes->nudge[lane] = exact.nudge;
  lanes->sign[lane] = exact.sign;
  lanes->shift[lane] = -exact.right;
  lanes->floor[lane] = exact.floor;
  lanes->ceiling[lane] = exact.ceiling;
  lanes->zero_point[lane] = channel->zero_point;
}

// Accumulators that started with `offset`, below 2^31, to 32-bit results that lack the absorbed form's addend.
QMATH_INLINE int32x4_t qmath_rescale_absorbed4(int32x4_t accumulator, const qmath_absorbed4 *lanes) {
  const uint32x4_t a = vreinterpretq_u32_s32(accumulator), factor = vld1q_u32(lanes->factor);
  const uint64x2_t low = vmull_u32(vget_low_u32(a), vget_low_u32(factor)), high = vmull_high_u32(a, factor);
  const uint32x4_t halves = vshrn_high_n_u64(vshrn_n_u64(low, 32), high, 32);
  return vreinterpretq_s32_u32(vshlq_u32(halves, vld1q_s32(lanes->shift)));
}

// Which accumulators were negative before they started with `offset`.
QMATH_INLINE int32x4_t qmath_negative4(int32x4_t accumulator, const qmath_absorbed4 *lanes) {
  return vreinterpretq_s32_u32(vcltq_s32(accumulator, vld1q_s32(lanes->bend)));
}

// The same where some of the channels are bent: negative ones lack the negative addend.
QMATH_INLINE int32x4_t qmath_rescale_bent4(int32x4_t accumulator, int32x4_t negative, const qmath_absorbed4 *lanes) {
  const int32x4_t more = vandq_s32(negative, vld1q_s32(lanes->bend_offset));
  return qmath_rescale_absorbed4(vaddq_s32(accumulator, more), lanes);
}

QMATH_INLINE int64x2_t qmath_rescale_exact2(int64x2_t product, const qmath_exact4 *lanes, int first) {
  // The first rounding's result is negative: (product + 2^30) >> 31 < 0.
  const uint64x2_t negative = vcltq_s64(product, vdupq_n_s64(-((int64_t)1 << 30)));
  const int64x2_t sign = vandq_s64(vreinterpretq_s64_u64(negative), vld1q_s64(lanes->sign + first));
  const int64x2_t nudged = vsubq_s64(vaddq_s64(product, vld1q_s64(lanes->nudge + first)), sign);
  return vshlq_s64(nudged, vld1q_s64(lanes->shift + first));
}

// Accumulators to clamped bytes in 32-bit lanes.
QMATH_INLINE int32x4_t qmath_rescale_exact4(int32x4_t accumulator, const qmath_exact4 *lanes) {
  const int32x4_t shifted = vshlq_s32(accumulator, vld1q_s32(lanes->left)), multiplier = vld1q_s32(lanes->multiplier);
  const int64x2_t low = vmull_s32(vget_low_s32(shifted), vget_low_s32(multiplier));
  const int32x2_t first = vmovn_s64(qmath_rescale_exact2(low, lanes, 0));
  const int32x4_t both = vmovn_high_s64(first, qmath_rescale_exact2(vmull_high_s32(shifted, multiplier), lanes, 2));
  const int32x4_t raised = vmaxq_s32(both, vld1q_s32(lanes->floor));
  return vaddq_s32(vminq_s32(raised, vld1q_s32(lanes->ceiling)), vld1q_s32(lanes->zero_point));
}

#endif  // UNFLOAT_QMATH_NEON_H_
