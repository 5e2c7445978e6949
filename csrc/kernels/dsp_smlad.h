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

// USADA8 adds up four unsigned bytes; weights become such by 128 more.
static inline int32_t uf_sum_weights(const int8_t *w, ptrdiff_t count) {
  uint32_t total = 0;
  for (const int8_t *const whole = w + count / 4 * 4; w != whole; w += 4) {
    __asm__("usada8 %0, %1, %2, %0" : "+r"(total) : "r"(uf_load_four(w) ^ 0x80808080u), "r"(0));
  }
  int32_t sum = (int32_t)(total - (uint32_t)(count / 4 * 4) * 128u);
  for (ptrdiff_t i = 0; i < count % 4; ++i) sum += w[i];
  return sum;
}

// The four products of weights of one row with the inputs of two pixels, added to the sums of both.
#define UF_PAIR_PRODUCTS(a, b, address)                              \
  __asm__("ldr %2, " address                                         \
          "\n sxtb16 %3, %2\n sxtb16 %2, %2, ror #8\n"               \
          " smlad %0, %3, %5, %0\n smlad %0, %2, %6, %0\n"           \
          " smlad %1, %3, %7, %1\n smlad %1, %2, %8, %1"             \
          : "+r"(a), "+r"(b), "=&r"(weights), "=&r"(halves), "+r"(w) \
          : "r"(even), "r"(odd), "r"(even1), "r"(odd1), "r"(depth)   \
          : "memory")

// Four inputs of one pixel, widened.
#define UF_LOAD_PIXEL(even, odd, address)                               \
  __asm__("ldr %1, " address "\n uxtb16 %0, %1\n uxtb16 %1, %1, ror #8" \
          : "=&r"(even), "=&r"(odd), "+r"(x)                            \
          : "r"(depth)                                                  \
          : "memory")

enum { UF_BLOCK_PIXELS = 2, UF_BLOCK_OUTPUTS = 2, UF_BLOCK_ZERO = 0 };

// sums[p][o] = start[o] + sum of w[o][i] * x[p][i] of two pixels and two outputs, whose rows lie side by side: what is
// widened serves twice. Not inlined: all registers are its own.
static __attribute__((noinline, unused)) void uf_sum_block(const uint8_t *x, const int8_t *w, ptrdiff_t depth,
                                                           const int32_t *start,
                                                           int32_t sums[UF_BLOCK_PIXELS][UF_BLOCK_OUTPUTS]) {
  int32_t a = start[0], b = start[1], a1 = a, b1 = b;
  const uint8_t *const whole = x + depth / 4 * 4;
  while (x != whole) {
    uint32_t even, odd, even1, odd1, weights, halves;
    UF_LOAD_PIXEL(even1, odd1, "[%2, %3]");
    UF_LOAD_PIXEL(even, odd, "[%2], #4");
    UF_PAIR_PRODUCTS(b, b1, "[%4, %9]");
    UF_PAIR_PRODUCTS(a, a1, "[%4], #4");
  }
  for (ptrdiff_t left = depth % 4; left > 0; --left, ++x, ++w) {
    a += x[0] * w[0];
    b += x[0] * w[depth];
    a1 += x[depth] * w[0];
    b1 += x[depth] * w[depth];
  }
  sums[0][0] = a;
  sums[0][1] = b;
  sums[1][0] = a1;
  sums[1][1] = b1;
}

#endif  // UNFLOAT_KERNELS_DSP_SMLAD_H_
