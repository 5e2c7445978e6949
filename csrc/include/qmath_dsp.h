// qmath.h's rescaling of one accumulator with Arm's DSP extension (C99). The same integers.

#ifndef UNFLOAT_QMATH_DSP_H_
#define UNFLOAT_QMATH_DSP_H_

#include <arm_acle.h>
#include <stdint.h>

#include "qmath.h"

// qmath_srdhm for b >= 0 (eq. 9). SMMLAR is c + the high half of 2^31 + a * twice, and twice = 2b. From b = 2^30 on
// that is read as 2b - 2^32, and c = a adds what is missing. Nothing saturates: the one case that would needs a
// negative b.
static inline int32_t qmath_dsp_srdhm(int32_t a, int32_t b) {
  const int32_t twice = qmath_shift_left(b, 1), missing = a & (twice >> 31);
  int32_t high;
  __asm__("smmlar %0, %1, %2, %3" : "=r"(high) : "r"(a), "r"(twice), "r"(missing));
  return high;
}

// qmath_rounding_divide_by_pot for x > INT32_MIN (eq. 10). The carry is the last bit that a shift has dropped, so
// adding it rounds, ties up; less one where x is negative, ties go away from zero. A shift by 0 leaves the carry of
// that subtraction, which is set where x is negative, and so undoes it.
static inline int32_t qmath_dsp_rounding_divide_by_pot(int32_t x, int exponent) {
  __asm__("adds %0, %0, %0, asr #31\n asrs %0, %0, %1\n adc %0, %0, #0" : "+r"(x) : "r"(exponent) : "cc");
  return x;
}

// qmath_requantize_double (eq. 11) for a multiplier in [0, 2^31), as all are: the high half of a product with it is
// above INT32_MIN.
static inline int32_t qmath_dsp_requantize_double(int32_t accumulator, int32_t multiplier, int shift) {
  int left;
  __asm__("usat %0, #5, %1" : "=r"(left) : "r"(shift));
  const int32_t high = qmath_dsp_srdhm(qmath_shift_left(accumulator, left), multiplier);
  return qmath_dsp_rounding_divide_by_pot(high, left - shift);
}

// Whether a multiplier is normalized and shifts to the right, as most do: then the accumulator need not be shifted to
// the left, what is missing in qmath_dsp_srdhm is the accumulator itself, and a code added to the result fits.
static inline bool qmath_dsp_is_plain(int32_t multiplier, int shift) { return multiplier >= 1 << 30 && shift < 0; }

// qmath_requantize_double with such a multiplier, plus a code, saturated to a byte.
static inline uint8_t qmath_dsp_plain_byte(int32_t accumulator, int32_t multiplier, int shift, int32_t code) {
  int32_t x;
  __asm__("smmlar %0, %1, %2, %1" : "=r"(x) : "r"(accumulator), "r"(qmath_shift_left(multiplier, 1)));
  __asm__("adds %0, %0, %0, asr #31\n asrs %0, %0, %1\n adc %0, %0, %2\n usat %0, #8, %0"
          : "+r"(x)
          : "r"(-shift), "r"(code)
          : "cc");
  return (uint8_t)x;
}

// qmath_clamp of four bytes: they are moved so that unsigned saturation is at the bounds, down by low, then up to where
// high is 255, then back.
static inline uint32_t qmath_dsp_clamp_bytes(uint32_t bytes, int32_t low, int32_t high) {
  const uint32_t ones = 0x01010101u, above = (uint32_t)(255 - high);
  const uint32_t raised = __uqsub8(bytes, (uint32_t)low * ones);
  return __uqsub8(__uqadd8(raised, ((uint32_t)low + above) * ones), above * ones);
}

#endif  // UNFLOAT_QMATH_DSP_H_
