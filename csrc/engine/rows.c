#include "rows.h"

#include <string.h>

#include "wide.h"

enum {
  PIECE = 1024,   // strided codes pass through a buffer of so many, so that the arithmetic stays wide
  DIVIDED = 256,  // numbers that are divided where a product will not do for one of them
};

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

WIDE static bool quantize_by_division(const float *restrict x, int64_t count, rows_label label,
                                      uint8_t *restrict codes) {
  int32_t nans = 0;
  for (int64_t i = 0; i < count; ++i) {
    nans |= x[i] != x[i];
    codes[i] = (uint8_t)qmath_quantize(x[i], label.scale, label.zero_point, label.qmin, label.qmax);
  }
  return nans == 0;
}

static inline int32_t bits_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// As quantize_by_division by a product, which costs far less. The quotients, at most 256, differ by three roundings of
// 2^-24 of themselves, less than 2^-14: only one that close to a tie can come to another code. Gives whether there is
// none, and no NaN.
WIDE static bool quantize_by_product(const float *restrict x, int64_t count, rows_label label, float inverse,
                                     uint8_t *restrict codes) {
  const float low = (float)(label.qmin - label.zero_point), high = (float)(label.qmax - label.zero_point);
  const float to_integers = 0x1.8p23f;  // adding it rounds to the nearest one, which the last bits then hold
  const float limit = 0.5f - 0x1p-14f;
  int32_t farthest = 0;  // as bits, which are in the order of numbers that are not negative, and NaNs above
  for (int64_t i = 0; i < count; ++i) {
    const float quotient = x[i] * inverse;
    const float raised = low > quotient ? low : quotient;  // in this order a NaN stays one
    const float steps = high < raised ? high : raised;
    const float shifted = steps + to_integers;
    const int32_t away = bits_of(__builtin_fabsf(steps - (shifted - to_integers)));
    farthest = away > farthest ? away : farthest;
    codes[i] = (uint8_t)(bits_of(shifted) + label.zero_point);
  }
  return farthest <= bits_of(limit);
}

static bool quantize_dense(const float *x, int64_t count, const rows_label *label, uint8_t *codes) {
  const bool ordinary = label->scale >= 0x1p-100f && label->scale <= 0x1p100f;  // its inverse is a normal number
  bool numbers = true;
  for (int64_t begin = 0; begin < count; begin += DIVIDED) {
    const int64_t size = least(count - begin, DIVIDED);
    const bool done = ordinary && quantize_by_product(x + begin, size, *label, 1.0f / label->scale, codes + begin);
    if (!done) numbers = quantize_by_division(x + begin, size, *label, codes + begin) && numbers;
  }
  return numbers;
}

bool rows_quantize(const float *x, int64_t count, const rows_label *label, uint8_t *codes, int64_t stride) {
  if (stride == 1) return quantize_dense(x, count, label, codes);
  bool numbers = true;
  for (int64_t begin = 0; begin < count; begin += PIECE) {
    uint8_t piece[PIECE];
    const int64_t size = least(count - begin, PIECE);
    numbers = quantize_dense(x + begin, size, label, piece) && numbers;
    for (int64_t i = 0; i < size; ++i) codes[(begin + i) * stride] = piece[i];
  }
  return numbers;
}

WIDE bool rows_quantize_words(const float *x, int64_t count, const rows_label *label, int16_t *codes, int64_t stride) {
  const rows_label own = *label;
  int32_t nans = 0;
  for (int64_t i = 0; i < count; ++i) {
    nans |= x[i] != x[i];
    codes[i * stride] = (int16_t)qmath_quantize(x[i], own.scale, own.zero_point, own.qmin, own.qmax);
  }
  return nans == 0;
}

// Three planes side by side: what pictures are, and a loop that compilers make wide.
WIDE static void interleave3(const uint8_t (*restrict planes)[PIECE], int64_t count, uint8_t *restrict codes) {
  const uint8_t *restrict red = planes[0], *restrict green = planes[1], *restrict blue = planes[2];
  for (int64_t i = 0; i < count; ++i) {
    codes[3 * i] = red[i];
    codes[3 * i + 1] = green[i];
    codes[3 * i + 2] = blue[i];
  }
}

static void interleave(const uint8_t (*planes)[PIECE], int64_t channels, int64_t count, uint8_t *codes) {
  if (channels == 3) return interleave3(planes, count, codes);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t c = 0; c < channels; ++c) codes[i * channels + c] = planes[c][i];
  }
}

bool rows_quantize_planes(const float *x, int64_t plane, int64_t channels, int64_t count, const rows_label *label,
                          uint8_t *codes) {
  bool numbers = true;
  for (int64_t begin = 0; begin < count; begin += PIECE) {
    uint8_t planes[ROWS_MOST_PLANES][PIECE];
    const int64_t size = least(count - begin, PIECE);
    for (int64_t c = 0; c < channels; ++c) {
      numbers = quantize_dense(x + c * plane + begin, size, label, planes[c]) && numbers;
    }
    interleave((const uint8_t(*)[PIECE])planes, channels, size, codes + begin * channels);
  }
  return numbers;
}

WIDE static void dequantize_dense(const uint8_t *restrict codes, int64_t count, bool is_signed, rows_label label,
                                  float *restrict x) {
  if (is_signed) {
    for (int64_t i = 0; i < count; ++i) x[i] = qmath_dequantize((int8_t)codes[i], label.scale, label.zero_point);
  } else {
    for (int64_t i = 0; i < count; ++i) x[i] = qmath_dequantize(codes[i], label.scale, label.zero_point);
  }
}

void rows_dequantize(const uint8_t *codes, int64_t stride, int64_t count, bool is_signed, const rows_label *label,
                     float *x) {
  if (stride == 1) {
    dequantize_dense(codes, count, is_signed, *label, x);
    return;
  }
  for (int64_t begin = 0; begin < count; begin += PIECE) {
    uint8_t piece[PIECE];
    const int64_t size = least(count - begin, PIECE);
    for (int64_t i = 0; i < size; ++i) piece[i] = codes[(begin + i) * stride];
    dequantize_dense(piece, size, is_signed, *label, x + begin);
  }
}

WIDE void rows_dequantize_words(const int16_t *codes, int64_t stride, int64_t count, const rows_label *label,
                                float *x) {
  const rows_label own = *label;
  for (int64_t i = 0; i < count; ++i) x[i] = qmath_dequantize(codes[i * stride], own.scale, own.zero_point);
}

WIDE static void requantize_row(int32_t *restrict row, int64_t channels, const int32_t *restrict multiplier,
                                const int8_t *restrict shift, qmath_rounding rounding) {
  if (rounding == QMATH_SINGLE) {
    for (int64_t c = 0; c < channels; ++c) row[c] = qmath_requantize_single(row[c], multiplier[c], shift[c]);
  } else {
    for (int64_t c = 0; c < channels; ++c) row[c] = qmath_requantize_double(row[c], multiplier[c], shift[c]);
  }
}

WIDE static void requantize_all(int32_t *restrict values, int64_t count, int32_t multiplier, int shift,
                                qmath_rounding rounding) {
  if (rounding == QMATH_SINGLE) {
    for (int64_t i = 0; i < count; ++i) values[i] = qmath_requantize_single(values[i], multiplier, shift);
  } else {
    for (int64_t i = 0; i < count; ++i) values[i] = qmath_requantize_double(values[i], multiplier, shift);
  }
}

void rows_requantize(int32_t *accumulators, int64_t rows, int64_t channels, const int32_t *multiplier,
                     const int8_t *shift, bool per_channel, qmath_rounding rounding) {
  if (!per_channel) {
    requantize_all(accumulators, rows * channels, multiplier[0], shift[0], rounding);
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    requantize_row(accumulators + row * channels, channels, multiplier, shift, rounding);
  }
}

WIDE static void finish_row(const int32_t *restrict accumulators, int64_t channels, const rows_output *restrict output,
                            int16_t *restrict codes) {
  int32_t piece[PIECE];
  for (int64_t begin = 0; begin < channels; begin += PIECE) {
    const int64_t size = least(channels - begin, PIECE);
    for (int64_t c = 0; c < size; ++c) piece[c] = accumulators[begin + c] + output->bias[begin + c];
    requantize_row(piece, size, output->multiplier + begin, output->shift + begin, output->rounding);
    for (int64_t c = 0; c < size; ++c) {
      codes[begin + c] = (int16_t)qmath_clamp_sum(piece[c], output->zero_point, output->clamp_min, output->clamp_max);
    }
  }
}

void rows_finish(const int32_t *accumulators, int64_t rows, int64_t channels, const rows_output *output,
                 int16_t *codes) {
  for (int64_t row = 0; row < rows; ++row) {
    finish_row(accumulators + row * channels, channels, output, codes + row * channels);
  }
}

WIDE static void add_all(const int32_t *restrict a, const int32_t *restrict b, int64_t count, rows_addition by,
                         int32_t *restrict codes) {
  if (by.rounding == QMATH_SINGLE) {
    for (int64_t i = 0; i < count; ++i) codes[i] = rows_sum(a[i], b[i], &by, QMATH_SINGLE);
  } else {
    for (int64_t i = 0; i < count; ++i) codes[i] = rows_sum(a[i], b[i], &by, QMATH_DOUBLE);
  }
}

void rows_add(const int32_t *a, const int32_t *b, int64_t count, const rows_addition *addition, int32_t *codes) {
  add_all(a, b, count, *addition, codes);
}
