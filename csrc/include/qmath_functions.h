// Logarithm, inverse square root and interpolated tables in fixed point (C99; the twin of spec/transcendental.py).

#ifndef UNFLOAT_QMATH_FUNCTIONS_H_
#define UNFLOAT_QMATH_FUNCTIONS_H_

#include "qmath.h"

static inline int32_t qmath_saturating_shift_left(int32_t x, int bits) {
  return qmath_saturate((int64_t)x * ((int64_t)1 << bits));
}

// ln(x) for x >= 1 in Q12, the result in Q5. x is r times a power of 2^(1/2), with r as near 2^(-1/4) as that allows;
// about it a quotient of two polynomials is the logarithm of r.
static inline int32_t qmath_logarithm(int32_t x) {
  const int32_t quarter = 1 << 23, half_root = 1518500250, quarter_root = 1805811301, ln2 = 1488522236;
  const int zeros = qmath_count_leading_zeros((uint32_t)x);
  const int odd_zeros = qmath_count_leading_zeros((uint32_t)qmath_srdhm(x, half_root)) - 1;
  const int32_t normal = qmath_saturating_shift_left(x, zeros - 1);
  const int32_t even = qmath_saturating_shift_left(qmath_srdhm(normal, half_root), 1);
  const int32_t odd = qmath_saturating_shift_left(x, odd_zeros);
  const int32_t even_power = (12 - zeros) * (1 << 25) + quarter, odd_power = (12 - odd_zeros) * (1 << 25) - quarter;
  const int32_t r = even < odd ? even : odd, power = even_power > odd_power ? even_power : odd_power;
  const int32_t p = (int32_t)(((int64_t)r + quarter_root + 1) >> 1), q = 2 * (r - quarter_root);
  const int32_t square = qmath_srdhm(q, q);
  const int32_t numerator = qmath_srdhm(q, r) + qmath_srdhm(qmath_srdhm(q, square), 117049297);
  const int32_t beyond_one =
      qmath_srdhm(p, 1057819769 + q + qmath_srdhm(square, 127690142)) + qmath_srdhm(q, 638450708);
  const int32_t quotient =
      qmath_srdhm(qmath_rounding_divide_by_pot(numerator, 6), qmath_one_over_one_plus_x(beyond_one));
  return qmath_saturating_shift_left(qmath_srdhm(power, ln2) + quotient, 1);
}

// A factor as qmath_requantize takes it.
typedef struct {
  int32_t multiplier;
  int shift;
} qmath_factor;

// 1 / sqrt(total), 0 counting as 1: five steps of Newton's iteration in Q3 from 1, on the total brought to
// [2^27, 2^29) by powers of 4.
static inline qmath_factor qmath_inverse_square_root(int32_t total) {
  qmath_factor factor = {INT32_MAX, 0};
  if (total <= 1) return factor;
  int right = 11;
  for (; total >= 1 << 29; total /= 4) ++right;
  const int pairs = (qmath_count_leading_zeros((uint32_t)total) - 1) / 2 - 1;
  right -= pairs;
  const int32_t a = (int32_t)((uint32_t)total << (2 * pairs)) >> 1, half_a = qmath_rounding_divide_by_pot(a, 1);
  int32_t x = 1 << 28;
  for (int step = 0; step < 5; ++step) {
    const int32_t cube = qmath_saturating_shift_left(qmath_srdhm(qmath_srdhm(x, x), x), 6);
    x = qmath_saturating_shift_left(qmath_srdhm(x, 3 << 27) - qmath_srdhm(half_a, cube), 3);
  }
  factor.multiplier = qmath_shift_left(qmath_srdhm(x, 1518500250), right < 0 ? -right : 0);
  factor.shift = right < 0 ? 0 : -right;
  return factor;
}

// --- Tables over the int16 codes: 512 segments, linear between their ends. ---

enum { QMATH_TABLE = 513, QMATH_TABLE_STEPS = 512 };

// A positive integer to 24 significant bits, ties to even: what a float32 keeps of it.
static inline int64_t qmath_significant24(int64_t x) {
  int64_t unit = 1;
  while (x >= unit << 24) unit *= 2;
  const int64_t rest = x & (unit - 1), whole = x - rest;
  return whole + (2 * rest > unit || (2 * rest == unit && (whole & unit)) ? unit : 0);
}

// A value in Q0, not negative, to Q16.15, half up.
static inline int32_t qmath_table_sample(int32_t value) {
  return (int32_t)((qmath_significant24(value) + (1 << 15)) >> 16);
}

// Samples of values in Q0 at the ends and middles of all segments, each lowered by half the error of interpolating in
// the middle of the segment that it begins. TFLite makes them in float32, so 24 bits of each number count.
static inline void qmath_set_table(const int32_t values[2 * QMATH_TABLE_STEPS + 1], int16_t table[QMATH_TABLE]) {
  for (int i = 0; i < QMATH_TABLE; ++i) {
    const int32_t sample = qmath_table_sample(values[2 * i]);
    int32_t error = 0;
    if (i < QMATH_TABLE_STEPS) {
      const int64_t next = qmath_significant24(values[2 * i + 2]);
      const int64_t ends = qmath_significant24(next + (int64_t)sample * (1 << 16));
      error = (int32_t)((ends + (1 << 16)) >> 17) - qmath_table_sample(values[2 * i + 1]);
    }
    table[i] = (int16_t)qmath_clamp(sample - qmath_rounding_divide_by_pot(error, 1), INT16_MIN, INT16_MAX);
  }
}

// exp on [-10, 0], Q0.15.
static inline void qmath_set_exponential_table(int16_t table[QMATH_TABLE]) {
  int32_t values[2 * QMATH_TABLE_STEPS + 1];
  for (int i = 0; i <= 2 * QMATH_TABLE_STEPS; ++i) {
    values[i] = qmath_exp_on_negative_values((i - 2 * QMATH_TABLE_STEPS) * (10 << 16), 5);
  }
  qmath_set_table(values, table);
}

// 1 / (1 + x) on [0, 1], Q0.15.
static inline void qmath_set_reciprocal_table(int16_t table[QMATH_TABLE]) {
  int32_t values[2 * QMATH_TABLE_STEPS + 1];
  for (int i = 0; i <= 2 * QMATH_TABLE_STEPS; ++i) {
    const int64_t twice = ((int64_t)(2 * QMATH_TABLE_STEPS) << 32) / (2 * QMATH_TABLE_STEPS + i);
    values[i] = qmath_saturate((twice + 1) / 2);
  }
  qmath_set_table(values, table);
}

static inline int32_t qmath_interpolate(const int16_t *table, int32_t code) {
  const int segment = (code >> 7) + QMATH_TABLE_STEPS / 2;
  return table[segment] + (((table[segment + 1] - table[segment]) * (code & 127) + 64) >> 7);
}

// A sum in Q16.15, at least 1/2, brought to [1, 2): the code of what exceeds 1, for the table of reciprocals.
static inline int32_t qmath_beyond_one(int32_t sum) {
  const int zeros = qmath_count_leading_zeros((uint32_t)sum);
  const int64_t normal = ((int64_t)sum << (zeros - 1)) + (1 << 13);
  return qmath_clamp((int32_t)(normal >> 14) - (1 << 16) - (1 << 15), INT16_MIN, INT16_MAX);
}

// A term times the reciprocal of that sum, both Q0.15, as the table gave it.
static inline int32_t qmath_over_sum(int32_t term, int32_t inverse, int32_t sum) {
  const int right = 31 - qmath_count_leading_zeros((uint32_t)sum);
  return qmath_clamp((term * inverse + (1 << (right - 1))) >> right, 0, INT16_MAX);
}

#endif  // UNFLOAT_QMATH_FUNCTIONS_H_
