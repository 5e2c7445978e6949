// qmath.h over whole arrays, for the Python side. In C, with restrict, so that compilers make wide versions of each.

#ifndef UNFLOAT_ROWS_H_
#define UNFLOAT_ROWS_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qmath.h"

#ifdef __cplusplus
extern "C" {
#endif

// How the codes of one array stand for reals. Codes are bytes here: int8 as two's complement.
typedef struct {
  float scale;
  int32_t zero_point;
  int32_t qmin, qmax;
} rows_label;

// Float32 to codes, `stride` bytes apart. False where x holds a NaN; its code is then meaningless.
bool rows_quantize(const float *x, int64_t count, const rows_label *label, uint8_t *codes, int64_t stride);

// The same to int16 codes, `stride` codes apart.
bool rows_quantize_words(const float *x, int64_t count, const rows_label *label, int16_t *codes, int64_t stride);

// Float32 planes, `count` numbers of each, to codes [count, channels], of at most ROWS_MOST_PLANES channels. The planes
// begin `plane` numbers apart. False as above.
enum { ROWS_MOST_PLANES = 16 };
bool rows_quantize_planes(const float *x, int64_t plane, int64_t channels, int64_t count, const rows_label *label,
                          uint8_t *codes);

// Codes, `stride` bytes apart, to float32.
void rows_dequantize(const uint8_t *codes, int64_t stride, int64_t count, bool is_signed, const rows_label *label,
                     float *x);

// The same from int16 codes, `stride` codes apart.
void rows_dequantize_words(const int16_t *codes, int64_t stride, int64_t count, const rows_label *label, float *x);

// Rescales [rows, channels] in place, by one multiplier and shift or by one for each channel.
void rows_requantize(int32_t *accumulators, int64_t rows, int64_t channels, const int32_t *multiplier,
                     const int8_t *shift, bool per_channel, qmath_rounding rounding);

// What follows the accumulator of a linear operator: one bias, multiplier and shift for each channel.
typedef struct {
  const int32_t *bias;
  const int32_t *multiplier;
  const int8_t *shift;
  int32_t zero_point;
  int32_t clamp_min;
  int32_t clamp_max;
  qmath_rounding rounding;
} rows_output;

// How two operands are brought to one scale, added and rescaled (eq. 21).
typedef struct {
  int32_t zero_point[2], multiplier[2];
  int shift[2];
  int left_shift;
  int32_t output_multiplier;
  int output_shift;
  int32_t output_zero_point, clamp_min, clamp_max;
  qmath_rounding rounding;
} rows_addition;

static inline int32_t rows_raised(int32_t code, int32_t zero_point, int left_shift) {
  return (code - zero_point) * (1 << left_shift);
}

// clamp(requantize(sum of requantize((x - zero_point) << left_shift)) + output_zero_point) of one element. Inlined with
// a constant rounding, so that a loop over it holds no choice.
static inline int32_t rows_sum(int32_t a, int32_t b, const rows_addition *by, qmath_rounding rounding) {
  const int32_t first = rows_raised(a, by->zero_point[0], by->left_shift);
  const int32_t second = rows_raised(b, by->zero_point[1], by->left_shift);
  const int32_t sum = qmath_requantize(first, by->multiplier[0], by->shift[0], rounding) +
                      qmath_requantize(second, by->multiplier[1], by->shift[1], rounding);
  const int32_t steps = qmath_requantize(sum, by->output_multiplier, by->output_shift, rounding);
  return qmath_clamp_sum(steps, by->output_zero_point, by->clamp_min, by->clamp_max);
}

// codes = rows_sum(a, b), element by element.
void rows_add(const int32_t *a, const int32_t *b, int64_t count, const rows_addition *addition, int32_t *codes);

// codes = clamp(requantize(accumulator + bias) + zero_point) of [rows, channels].
void rows_finish(const int32_t *accumulators, int64_t rows, int64_t channels, const rows_output *output,
                 int16_t *codes);

#ifdef __cplusplus
}
#endif

#endif  // UNFLOAT_ROWS_H_
