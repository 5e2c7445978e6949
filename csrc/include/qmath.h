// Fixed-point arithmetic: rounding, saturation, multipliers (docs/numerics.md; the twin of spec/fixedpoint.py).
//
// C99, header only, no float except at the border, the last section. Equation numbers are those of docs/numerics.md.
// Nothing here is undefined for any argument, but where qmath_requantize_acc64 bounds them: left shifts are made on
// unsigned numbers or by multiplication. Two things
// are implementation-defined in C99 and the same on every compiler of interest: right shifts of negative numbers are
// arithmetic (asserted below) and a narrowing conversion to int32_t wraps.

#ifndef UNFLOAT_QMATH_H_
#define UNFLOAT_QMATH_H_

#include <stdbool.h>
#include <stdint.h>

typedef char qmath_right_shift_is_arithmetic[(-3 >> 1) == -2 ? 1 : -1];

// How a product with a multiplier is rounded: twice (the paper, TFLite, CMSIS-NN) or once.
// QMATH_ACC64 is once too, of 64-bit accumulators by 16-bit multipliers.
typedef enum { QMATH_DOUBLE = 0, QMATH_SINGLE = 1, QMATH_ACC64 = 2 } qmath_rounding;

static inline int32_t qmath_clamp(int32_t x, int32_t low, int32_t high) {
  const int32_t raised = x < low ? low : x;
  return raised > high ? high : raised;
}

// clamp(x + addend, low, high) without the sum's overflow; addend, low and high are codes, so small.
static inline int32_t qmath_clamp_sum(int32_t x, int32_t addend, int32_t low, int32_t high) {
  return qmath_clamp(x, low - addend, high - addend) + addend;
}

static inline int32_t qmath_saturate(int64_t x) {
  return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
}

// x * 2^exponent, wrapping; exponent in [0, 31]. Overflow of real accumulators is excluded by proof before a run.
static inline int32_t qmath_shift_left(int32_t x, int exponent) { return (int32_t)((uint32_t)x << exponent); }

// floor((a*b + 2^30) / 2^31): the high half of 2ab, ties up (eq. 9); SRDHM, NEON's SQRDMULH. Only (INT32_MIN,
// INT32_MIN) does not fit, and saturates.
static inline int32_t qmath_srdhm(int32_t a, int32_t b) {
  const int64_t high = ((int64_t)a * b + ((int64_t)1 << 30)) >> 31;
  return high > INT32_MAX ? INT32_MAX : (int32_t)high;
}

// x / 2^exponent to nearest, ties away from zero (eq. 10); exponent in [0, 31].
static inline int32_t qmath_rounding_divide_by_pot(int32_t x, int exponent) {
  const int32_t mask = (int32_t)((1u << exponent) - 1);
  const int32_t threshold = (mask >> 1) + (x < 0);
  return (x >> exponent) + ((x & mask) > threshold);
}

// accumulator * multiplier * 2^(shift - 31), rounded twice (eq. 11); shift in [-31, 30], positive to the left.
static inline int32_t qmath_requantize_double(int32_t accumulator, int32_t multiplier, int shift) {
  const int left = shift > 0 ? shift : 0;
  const int32_t high = qmath_srdhm(qmath_shift_left(accumulator, left), multiplier);
  return qmath_rounding_divide_by_pot(high, left - shift);
}

// The same, rounded once, ties up (eq. 12).
static inline int32_t qmath_requantize_single(int32_t accumulator, int32_t multiplier, int shift) {
  const int64_t product = (int64_t)accumulator * multiplier;
  return (int32_t)((product + ((int64_t)1 << (30 - shift))) >> (31 - shift));
}

// The high half of a multiplier, to nearest: at most 15 bits, so that products with 48-bit accumulators fit.
static inline int32_t qmath_reduced_multiplier(int32_t multiplier) {
  return multiplier < 0x7FFF0000 ? (multiplier + (1 << 15)) >> 16 : 0x7FFF;
}

// A 64-bit accumulator * multiplier * 2^(shift - 15), rounded once, ties up (eq. 38); |accumulator| < 2^47, a reduced
// multiplier, shift in [-31, 7]. That the result fits is proven before a run.
static inline int32_t qmath_requantize_acc64(int64_t accumulator, int32_t reduced_multiplier, int shift) {
  return (int32_t)((accumulator * reduced_multiplier + ((int64_t)1 << (14 - shift))) >> (15 - shift));
}

static inline int32_t qmath_requantize(int32_t accumulator, int32_t multiplier, int shift, qmath_rounding rounding) {
  return rounding == QMATH_SINGLE ? qmath_requantize_single(accumulator, multiplier, shift)
                                  : qmath_requantize_double(accumulator, multiplier, shift);
}

// total / count to nearest, ties away from code 0 (eq. 24); count >= 1.
static inline int32_t qmath_average(int32_t total, int32_t count) {
  const uint32_t magnitude = total < 0 ? 0u - (uint32_t)total : (uint32_t)total;
  const uint32_t quotient = (magnitude + (uint32_t)count / 2) / (uint32_t)count;
  return (int32_t)(total < 0 ? 0u - quotient : quotient);
}

// The same for many sums of one count: the division is by a reciprocal, which compilers vectorise. |total| <= 255
// count.
enum { QMATH_RECIPROCAL_COUNTS = 2896 };  // counts up to this one: 256 count^2 < 2^31, so the product is never one off

static inline uint32_t qmath_count_reciprocal(int32_t count) { return (uint32_t)((1u << 31) / (uint32_t)count + 1); }

static inline int32_t qmath_average_by_reciprocal(int32_t total, int32_t count, uint32_t reciprocal) {
  const int32_t magnitude = (total < 0 ? -total : total) + count / 2;
  const int32_t quotient = (int32_t)(((uint64_t)(uint32_t)magnitude * reciprocal) >> 31);
  return total < 0 ? -quotient : quotient;
}

// --- Functions of the paper's appendix A.1. Qm is int32 with m integer bits and 31 - m fractional ones. ---

// exp(a) on [-1/4, 0) in Q0: the Taylor polynomial of degree 4 about -1/8 (eq. 26).
static inline int32_t qmath_exp_on_quarter_interval(int32_t a) {
  const int32_t exp_minus_eighth = 1895147668, third = 715827883;
  const int32_t x = a + (1 << 28);
  const int32_t x2 = qmath_srdhm(x, x);
  const int32_t x3 = qmath_srdhm(x2, x);
  const int32_t x4_over_4 = qmath_rounding_divide_by_pot(qmath_srdhm(x2, x2), 2);
  const int32_t series = qmath_rounding_divide_by_pot(qmath_srdhm(x4_over_4 + x3, third) + x2, 1);
  return exp_minus_eighth + qmath_srdhm(x + series, exp_minus_eighth);
}

// exp(a) for a <= 0 in Q(integer_bits), result in Q0 (eq. 27); integer_bits in [0, 29]. Above the last quarter the bits
// of a are a barrel shifter: one fixed factor e^-(2^k) for each bit that is set.
static inline int32_t qmath_exp_on_negative_values(int32_t a, int integer_bits) {
  static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
  const int fraction_bits = 31 - integer_bits;
  const int32_t quarter = (int32_t)(1u << (fraction_bits - 2));
  const int32_t low = (a & (quarter - 1)) - quarter;
  const uint32_t remainder = (uint32_t)low - (uint32_t)a;
  int32_t result = qmath_exp_on_quarter_interval(low * (int32_t)(1u << integer_bits));
  for (int k = -2; k <= 4 && k < integer_bits; ++k) {
    if (remainder & (1u << (fraction_bits + k))) result = qmath_srdhm(result, factors[k + 2]);
  }
  if (integer_bits > 5 && a < -((int64_t)32 << fraction_bits)) result = 0;
  return a == 0 ? INT32_MAX : result;
}

// 1 / (1 + a) for a in [0, 1), Q0 to Q0: three Newton steps in Q2 (eq. 28).
static inline int32_t qmath_one_over_one_plus_x(int32_t a) {
  const int32_t half_denominator = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);  // rounds half up: a is not negative
  int32_t x = 1515870810 + qmath_srdhm(half_denominator, -1010580540);            // 48/17 - 32/17 d
  for (int step = 0; step < 3; ++step) {
    const int32_t error = qmath_saturate(((int64_t)1 << 29) - qmath_srdhm(half_denominator, x));
    x = qmath_saturate((int64_t)x + qmath_saturate((int64_t)qmath_srdhm(x, error) * 4));
  }
  return qmath_saturate((int64_t)x * 2);
}

// Leading zero bits; 32 for 0.
static inline int qmath_count_leading_zeros(uint32_t x) {
  int zeros = 32;
  for (; x != 0; x >>= 1) --zeros;
  return zeros;
}

typedef struct {
  int32_t mantissa;  // Q0
  int exponent;      // the number is mantissa * 2^-exponent
} qmath_scaled;

// 1 / total for a positive total in Q(integer_bits) (eq. 29).
static inline qmath_scaled qmath_reciprocal(int32_t total, int integer_bits) {
  const int headroom = qmath_count_leading_zeros((uint32_t)total) & 31;
  const uint32_t normalised = (uint32_t)total << headroom;  // in [1, 2): its leading bit is the 1
  const qmath_scaled result = {qmath_one_over_one_plus_x((int32_t)(normalised & INT32_MAX)), integer_bits - headroom};
  return result;
}

// A curve through int16 codes: see qmath_along_curve. multiplier has 15 bits, shift is in [0, 31], segment_bits 8 or 9.
typedef struct {
  int32_t multiplier, shift;
  int32_t segment_bits;
  int32_t centre;
  int32_t output_shift;
} qmath_curve;

enum { QMATH_SEGMENTS = 255 };

// The curve at a code, straight between the ends of 255 segments and odd about its centre (eq. 47); ends[256] stands
// for all that lies beyond.
static inline int32_t qmath_along_curve(int32_t code, const int16_t *ends, const qmath_curve *curve) {
  const int32_t half = (int32_t)((1u << curve->shift) >> 1);
  const int32_t x = (code * curve->multiplier + half) >> curve->shift;
  const int32_t magnitude = x < 0 ? -x : x, unit = 1 << curve->segment_bits, segment = magnitude >> curve->segment_bits;
  const bool beyond = segment >= QMATH_SEGMENTS;
  const int32_t rest = magnitude & (unit - 1);
  const int32_t height =
      beyond ? ends[QMATH_SEGMENTS + 1] * unit : ends[segment] * unit + rest * (ends[segment + 1] - ends[segment]);
  return ((x < 0 ? -height - 1 : height) + curve->centre + (1 << (curve->output_shift - 1))) >> curve->output_shift;
}

// --- The border between float and codes, outside every instruction; exported C takes and gives codes. ---

#ifdef UF_ENGINE

// The nearest whole number, ties away from zero; exact for |x| < 2^31, where the conversion is defined.
static inline float qmath_round_half_away(float x) {
  const float whole = (float)(int32_t)x;
  const float rest = x - whole;  // exact
  return whole + (float)((rest >= 0.5f) - (rest <= -0.5f));
}

// clamp(round_half_away(x / scale) + zero_point, qmin, qmax) (eq. 5): an IEEE float32 division, never a product with
// 1 / scale. Infinities saturate; NaN gives qmin, and the caller reports it. Clamping before rounding changes nothing
// (the bounds are whole) and keeps the conversion to int32_t defined.
static inline int32_t qmath_quantize(float x, float scale, int32_t zero_point, int32_t qmin, int32_t qmax) {
  const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
  const float quotient = x / scale;
  const float raised = quotient > low ? quotient : low;
  const float steps = raised < high ? raised : high;
  const int32_t whole = (int32_t)steps;
  const float rest = steps - (float)whole;  // exact
  return whole + (rest >= 0.5f) - (rest <= -0.5f) + zero_point;
}

// scale * (code - zero_point) in float32 (eq. 1).
static inline float qmath_dequantize(int32_t code, float scale, int32_t zero_point) {
  return (float)(code - zero_point) * scale;
}

#endif  // UF_ENGINE

#endif  // UNFLOAT_QMATH_H_
