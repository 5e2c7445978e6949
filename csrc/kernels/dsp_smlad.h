// dsp.h with the DSP extension: two products of 16 bits an instruction.

#ifndef UNFLOAT_KERNELS_DSP_SMLAD_H_
#define UNFLOAT_KERNELS_DSP_SMLAD_H_

#include <string.h>

#include "qmath_dsp.h"

static inline uint32_t uf_load_four(const void *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

// Bytes 0 and 2 of a word, or 1 and 3, widened to two halves; for inputs, less the zero point.
#define UF_WIDEN(rotation, word, halves) __asm__("sxtb16 %0, %1" rotation : "=r"(halves) : "r"(word))
#define UF_CENTRE(rotation, word, minus_zero, halves) \
  __asm__("uxtab16 %0, %2, %1" rotation : "=r"(halves) : "r"(word), "r"(minus_zero))

// Both halves are minus the zero point.
static inline uint32_t uf_minus_zero(int32_t zero_point) { return ((uint32_t)-zero_point & 0xFFFFu) * 0x00010001u; }

// sum += four weights times the inputs. One piece, and the address given as an instruction has it: so the registers
// suffice for all that the loop below holds.
#define UF_FOUR_PRODUCTS(sum, even, odd, address)                                                                     \
  __asm__("ldr %1, " address "\n sxtb16 %2, %1\n smlad %0, %2, %4, %0\n sxtb16 %1, %1, ror #8\n smlad %0, %1, %5, %0" \
          : "+r"(sum), "=&r"(weights), "=&r"(halves), "+r"(w)                                                         \
          : "r"(even), "r"(odd), "r"(depth), "r"(thrice)                                                              \
          : "memory")

// sums[r] += sum of w[r][i] * (x[i] - zero_point). Not inlined: all registers are its own.
static __attribute__((noinline, unused)) void uf_dot_four_rows(const uint8_t *x, int32_t zero_point, const int8_t *w,
                                                               ptrdiff_t depth, ptrdiff_t count, int32_t *sums) {
  const uint32_t minus_zero = uf_minus_zero(zero_point);
  const ptrdiff_t thrice = 3 * depth;
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  const uint8_t *const whole = x + count / 4 * 4;
  for (; x != whole; x += 4) {
    const uint32_t word = uf_load_four(x);
    uint32_t even, odd, weights, halves;
    UF_CENTRE("", word, minus_zero, even);
    UF_CENTRE(", ror #8", word, minus_zero, odd);
    UF_FOUR_PRODUCTS(s3, even, odd, "[%3, %7]");
    UF_FOUR_PRODUCTS(s2, even, odd, "[%3, %6, lsl #1]");
    UF_FOUR_PRODUCTS(s1, even, odd, "[%3, %6]");
    UF_FOUR_PRODUCTS(s0, even, odd, "[%3], #4");
  }
  for (ptrdiff_t left = count % 4; left > 0; --left, ++x, ++w) {
    const int32_t v = *x - zero_point;
    s0 += v * w[0];
    s1 += v * w[depth];
    s2 += v * w[2 * depth];
    s3 += v * w[thrice];
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

// sum += a half of a times a half of b, the bottom or the top one of each.
#define UF_MULTIPLY_HALVES(halves, sum, a, b) __asm__("smla" halves " %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b))

// sums[c] += sum over the taps of w[c] * (x[c] - zero_point), of four channels from `first` on.
static inline void uf_sum_four_channels(const uf_patch *patch, int32_t zero_point, ptrdiff_t first, int32_t *sums) {
  const uint32_t minus_zero = uf_minus_zero(zero_point);
  const uint8_t *x_row = patch->x + first;
  const int8_t *w_row = patch->w + first;
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  for (int32_t i = patch->rows; i > 0; --i, x_row += patch->x_row, w_row += patch->w_row) {
    const uint8_t *x = x_row;
    const int8_t *w = w_row;
    for (int32_t j = patch->columns; j > 0; --j, x += patch->x_step, w += patch->w_step) {
      const uint32_t word = uf_load_four(x), weights = uf_load_four(w);
      uint32_t even, odd, w_even, w_odd;
      UF_CENTRE("", word, minus_zero, even);
      UF_CENTRE(", ror #8", word, minus_zero, odd);
      UF_WIDEN("", weights, w_even);
      UF_WIDEN(", ror #8", weights, w_odd);
      UF_MULTIPLY_HALVES("bb", s0, even, w_even);
      UF_MULTIPLY_HALVES("bb", s1, odd, w_odd);
      UF_MULTIPLY_HALVES("tt", s2, even, w_even);
      UF_MULTIPLY_HALVES("tt", s3, odd, w_odd);
    }
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

// sums[c] += sum over the taps of w[c] * (x - zero_point), of four channels from `first` on that see one input channel.
static inline void uf_sum_four_multiples(const uf_patch *patch, int32_t zero_point, ptrdiff_t input, ptrdiff_t first,
                                         int32_t *sums) {
  const uint8_t *x_row = patch->x + input;
  const int8_t *w_row = patch->w + first;
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  for (int32_t i = patch->rows; i > 0; --i, x_row += patch->x_row, w_row += patch->w_row) {
    const uint8_t *x = x_row;
    const int8_t *w = w_row;
    for (int32_t j = patch->columns; j > 0; --j, x += patch->x_step, w += patch->w_step) {
      const int32_t v = *x - zero_point;
      const uint32_t weights = uf_load_four(w);
      uint32_t even, odd;
      UF_WIDEN("", weights, even);
      UF_WIDEN(", ror #8", weights, odd);
      UF_MULTIPLY_HALVES("bb", s0, v, even);
      UF_MULTIPLY_HALVES("bb", s1, v, odd);
      UF_MULTIPLY_HALVES("bt", s2, v, even);
      UF_MULTIPLY_HALVES("bt", s3, v, odd);
    }
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}

// Adds to the sums of `count` channels, from `first` on, their products with the taps.
static inline void uf_sum_patch(const uf_patch *patch, int32_t zero_point, ptrdiff_t first, int32_t count,
                                int32_t *sums) {
  int32_t c = 0;
  for (; c < count / 4 * 4; c += 4) uf_sum_four_channels(patch, zero_point, first + c, sums + c);
  for (; c < count; ++c) {
    for (int32_t i = 0; i < patch->rows; ++i) {
      const uint8_t *x = patch->x + i * patch->x_row + first + c;
      const int8_t *w = patch->w + i * patch->w_row + first + c;
      for (int32_t j = 0; j < patch->columns; ++j)
        sums[c] += (x[j * patch->x_step] - zero_point) * w[j * patch->w_step];
    }
  }
}

// Accumulators to bytes, rounded twice.
static inline void uf_emit_fours(const int32_t *sums, const int32_t *multiplier, const int8_t *shift, int32_t count,
                                 int32_t zero_point, int32_t low, int32_t high, uint8_t *out) {
  for (int32_t c = 0; c < count; ++c) {
    const int32_t steps = qmath_dsp_requantize_double(sums[c], multiplier[c], shift[c]);
    out[c] = (uint8_t)qmath_clamp_sum(steps, zero_point, low, high);
  }
}

// Columns of a strip's weights that are widened together: a multiple of four.
enum { UF_PART = 64 };

// Four weights of a row, the even and the odd ones apart.
static inline void uf_widen_four(const int8_t *w, uint32_t *halves) {
  const uint32_t word = uf_load_four(w);
  UF_WIDEN("", word, halves[0]);
  UF_WIDEN(", ror #8", word, halves[1]);
}

// Weights of a strip's rows, widened: four columns of each row in turn, then the next four.
static inline void uf_widen_rows(const int8_t *w, ptrdiff_t step, ptrdiff_t count, uint32_t *halves) {
  for (const int8_t *const end = w + count; w != end; w += 4, halves += 2 * UF_STRIP_ROWS) {
    uf_widen_four(w, halves);
    uf_widen_four(w + step, halves + 2);
    uf_widen_four(w + 2 * step, halves + 4);
    uf_widen_four(w + 3 * step, halves + 6);
  }
}

// Four products each for the sums of two rows, whose widened weights are the next in memory.
#define UF_TWO_ROWS(a, b)                                                            \
  __asm__(                                                                           \
      "ldmia %2!, {r6, r8, r9, r10}\n smlad %0, r6, %3, %0\n smlad %0, r8, %4, %0\n" \
      " smlad %1, r9, %3, %1\n smlad %1, r10, %4, %1"                                \
      : "+r"(a), "+r"(b), "+r"(w)                                                    \
      : "r"(even), "r"(odd)                                                          \
      : "r6", "r8", "r9", "r10", "memory")

// sums[p][r] += sum of w[r][i], widened, times (x[p][i] - zero_point), of `count` columns, a multiple of four. Not
// inlined: all registers are its own.
static __attribute__((noinline, unused)) void uf_add_part(const uint8_t *x, ptrdiff_t step, int32_t zero_point,
                                                          const uint32_t *halves, ptrdiff_t count, int32_t pixels,
                                                          int32_t *sums) {
  const uint32_t minus_zero = uf_minus_zero(zero_point);
  const uint32_t *const end = halves + count / 2 * UF_STRIP_ROWS;
  const int32_t *const last = sums + pixels * UF_STRIP_ROWS;
  do {
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    const uint32_t *w = halves;
    do {
      const uint32_t word = uf_load_four(x);
      uint32_t even, odd;
      x += 4;
      UF_CENTRE("", word, minus_zero, even);
      UF_CENTRE(", ror #8", word, minus_zero, odd);
      UF_TWO_ROWS(s0, s1);
      UF_TWO_ROWS(s2, s3);
    } while (w != end);
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    sums += UF_STRIP_ROWS;
    x += step - count;
  } while (sums != last);
}

// sums[p][r] += w[r] * (x[p] - zero_point): one column of a strip.
static inline void uf_add_column(const uf_strip *strip, int32_t zero_point, ptrdiff_t column, int32_t *sums) {
  const uint8_t *x = strip->x + column;
  const int8_t *w = strip->w + column;
  const int32_t w0 = w[0], w1 = w[strip->w_step], w2 = w[2 * strip->w_step], w3 = w[3 * strip->w_step];
  for (int32_t p = strip->pixels; p > 0; --p, x += strip->x_step, sums += UF_STRIP_ROWS) {
    const int32_t v = *x - zero_point;
    sums[0] += v * w0;
    sums[1] += v * w1;
    sums[2] += v * w2;
    sums[3] += v * w3;
  }
}

// sums[p][r] += sum of w[r][i] * (x[p][i] - zero_point). Weights are widened once for all pixels, a part at a time.
static inline void uf_sum_strip(const uf_strip *strip, int32_t zero_point, int32_t *sums) {
  uint32_t halves[UF_PART * UF_STRIP_ROWS / 2];
  const ptrdiff_t whole = strip->count / 4 * 4;
  for (ptrdiff_t at = 0; at < whole; at += UF_PART) {
    const ptrdiff_t count = whole - at < UF_PART ? whole - at : UF_PART;
    uf_widen_rows(strip->w + at, strip->w_step, count, halves);
    uf_add_part(strip->x + at, strip->x_step, zero_point, halves, count, strip->pixels, sums);
  }
  for (ptrdiff_t at = whole; at < strip->count; ++at) uf_add_column(strip, zero_point, at, sums);
}

// The accumulators of two rows of a strip to bytes, rounded twice; pixels of the output lie `step` apart.
static inline void uf_emit_two_rows(const int32_t *sums, int32_t pixels, const int32_t *multipliers,
                                    const int8_t *shifts, int32_t zero_point, ptrdiff_t step, uint8_t *out) {
  const int32_t m0 = multipliers[0], m1 = multipliers[1];
  const int shift0 = shifts[0], shift1 = shifts[1];
  if (qmath_dsp_is_plain(m0, shift0) && qmath_dsp_is_plain(m1, shift1)) {
    for (; pixels > 0; --pixels, out += step) {
      const int32_t first = sums[0], second = sums[1];
      sums += UF_STRIP_ROWS;
      out[0] = qmath_dsp_plain_byte(first, m0, shift0, zero_point);
      out[1] = qmath_dsp_plain_byte(second, m1, shift1, zero_point);
    }
  } else {
    for (; pixels > 0; --pixels, sums += UF_STRIP_ROWS, out += step)
      uf_emit_fours(sums, multipliers, shifts, 2, zero_point, 0, 255, out);
  }
}

// A strip's accumulators to bytes. Most layers' codes may be any byte; where not, four at a time are clamped at the
// end.
static __attribute__((noinline, unused)) void uf_emit_strip(const int32_t *sums, int32_t pixels,
                                                            const int32_t *multipliers, const int8_t *shifts,
                                                            int32_t zero_point, int32_t low, int32_t high,
                                                            ptrdiff_t step, uint8_t *out) {
  for (int r = 0; r < UF_STRIP_ROWS; r += 2) {
    uf_emit_two_rows(sums + r, pixels, multipliers + r, shifts + r, zero_point, step, out + r);
  }
  if (low == 0 && high == 255) return;
  for (; pixels > 0; --pixels, out += step) {
    const uint32_t bytes = qmath_dsp_clamp_bytes(uf_load_four(out), low, high);
    memcpy(out, &bytes, sizeof bytes);
  }
}

#endif  // UNFLOAT_KERNELS_DSP_SMLAD_H_
