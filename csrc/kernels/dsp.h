// The inner loops of scalar.h on Cortex-M (C99): with Helium (MVE) 16 products an instruction, with the DSP extension
// two. Which, the compiler's target says, unless UF_PLAIN_C is defined, to bisect any doubt. The integers are the same:
// sums wrap, and what they come to is proven to fit.

#ifndef UNFLOAT_KERNELS_DSP_H_
#define UNFLOAT_KERNELS_DSP_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(UF_PLAIN_C)

#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define UF_CORTEX_M 1
#define UF_HELIUM 1
#include "qmath_mve.h"

// sums[r] += sum of w[r][i] * (x[i] - zero_point). Inputs become signed bytes, so the zero point is taken off once, by
// the sum of the weights.
static inline void uf_dot_four_rows(const uint8_t *x, int32_t zero_point, const int8_t *w, ptrdiff_t depth,
                                    ptrdiff_t count, int32_t *sums) {
  int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
  const int8_t *w1 = w + depth, *w2 = w1 + depth, *w3 = w2 + depth;
  for (ptrdiff_t left = count; left > 0; left -= 16, x += 16, w += 16, w1 += 16, w2 += 16, w3 += 16) {
    const mve_pred16_t some = vctp8q((uint32_t)left);
    const int8x16_t v = vreinterpretq_s8_u8(veorq_u8(vldrbq_z_u8(x, some), vdupq_n_u8(0x80)));
    const int8x16_t a = vldrbq_z_s8(w, some), b = vldrbq_z_s8(w1, some);
    const int8x16_t c = vldrbq_z_s8(w2, some), d = vldrbq_z_s8(w3, some);
    s0 = vmladavaq_s8(s0, v, a);
    t0 = vaddvaq_s8(t0, a);
    s1 = vmladavaq_s8(s1, v, b);
    t1 = vaddvaq_s8(t1, b);
    s2 = vmladavaq_s8(s2, v, c);
    t2 = vaddvaq_s8(t2, c);
    s3 = vmladavaq_s8(s3, v, d);
    t3 = vaddvaq_s8(t3, d);
  }
  const int32_t steps[4] = {s0, s1, s2, s3}, weights[4] = {t0, t1, t2, t3};
  const uint32_t zero = (uint32_t)(128 - zero_point);
  for (int r = 0; r < 4; ++r) sums[r] = (int32_t)((uint32_t)sums[r] + (uint32_t)steps[r] + zero * (uint32_t)weights[r]);
}

// sums[c] += w[c] * (x[c] - zero_point).
static inline void uf_add_products_each(const uint8_t *x, int32_t zero_point, const int8_t *w, int32_t count,
                                        int32_t *sums) {
  for (; count > 0; count -= 4, x += 4, w += 4, sums += 4) {
    const mve_pred16_t some = vctp32q((uint32_t)count);
    const int32x4_t v = vsubq_n_s32(vreinterpretq_s32_u32(vldrbq_z_u32(x, some)), zero_point);
    const int32x4_t product = vmulq_s32(v, vldrbq_z_s32(w, some));
    vstrwq_p_s32(sums, vaddq_s32(vldrwq_z_s32(sums, some), product), some);
  }
}

// Four accumulators at a time to bytes, rounded twice.
static inline void uf_emit_fours(const int32_t *sums, const int32_t *multiplier, const int8_t *shift, int32_t count,
                                 int32_t zero_point, int32_t low, int32_t high, uint8_t *out) {
  for (; count > 0; count -= 4, sums += 4, multiplier += 4, shift += 4, out += 4) {
    const mve_pred16_t some = vctp32q((uint32_t)count);
    const int32x4_t steps = qmath_mve_requantize_double(vldrwq_z_s32(sums, some), vldrwq_z_s32(multiplier, some),
                                                        vldrbq_z_s32(shift, some));
    const int32x4_t bytes = qmath_mve_clamp_sum(steps, zero_point, low, high);
    vstrbq_p_u32(out, vreinterpretq_u32_s32(bytes), some);
  }
}

#elif defined(__ARM_FEATURE_DSP)
#define UF_CORTEX_M 1

static inline uint32_t uf_load_four(const void *bytes) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

// Bytes 0 and 2 of a word, or 1 and 3, widened to two halves; and two products added to a sum.
#define UF_WIDEN(instruction, rotation, word, halves) __asm__(instruction " %0, %1" rotation : "=r"(halves) : "r"(word))
#define UF_MULTIPLY(sum, a, b) __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b))

// sum += four weights times the inputs. One piece, and the address given as an instruction has it: so the registers
// suffice for all that the loop below holds.
#define UF_FOUR_PRODUCTS(sum, even, odd, address)                                                                     \
  __asm__("ldr %1, " address "\n sxtb16 %2, %1\n smlad %0, %2, %4, %0\n sxtb16 %1, %1, ror #8\n smlad %0, %1, %5, %0" \
          : "+r"(sum), "=&r"(weights), "=&r"(halves), "+r"(w)                                                         \
          : "r"(even), "r"(odd), "r"(depth), "r"(thrice))

// sums[r] += sum of w[r][i] * (x[i] - zero_point). Not inlined: all registers are its own.
static __attribute__((noinline)) void uf_dot_four_rows(const uint8_t *x, int32_t zero_point, const int8_t *w,
                                                       ptrdiff_t depth, ptrdiff_t count, int32_t *sums) {
  const uint32_t zero = (uint32_t)zero_point * 0x00010001u;
  const ptrdiff_t thrice = 3 * depth;
  int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
  const uint8_t *const whole = x + count / 4 * 4;
  for (; x != whole; x += 4) {
    const uint32_t word = uf_load_four(x);
    uint32_t even, odd, weights, halves;
    UF_WIDEN("uxtb16", "", word, even);
    UF_WIDEN("uxtb16", ", ror #8", word, odd);
    __asm__("ssub16 %0, %0, %1" : "+r"(even) : "r"(zero));
    __asm__("ssub16 %0, %0, %1" : "+r"(odd) : "r"(zero));
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

#define UF_MULTIPLY_HALVES(halves, sum, a, b) __asm__("smla" halves " %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b))

// sums[c] += w[c] * (x[c] - zero_point).
static inline void uf_add_products_each(const uint8_t *x, int32_t zero_point, const int8_t *w, int32_t count,
                                        int32_t *sums) {
  const uint32_t zero = (uint32_t)zero_point * 0x00010001u;
  const int32_t *const whole = sums + count / 4 * 4;
  for (; sums != whole; x += 4, w += 4, sums += 4) {
    const uint32_t word = uf_load_four(x), weights = uf_load_four(w);
    uint32_t even, odd, w_even, w_odd;
    UF_WIDEN("uxtb16", "", word, even);
    UF_WIDEN("uxtb16", ", ror #8", word, odd);
    UF_WIDEN("sxtb16", "", weights, w_even);
    UF_WIDEN("sxtb16", ", ror #8", weights, w_odd);
    __asm__("ssub16 %0, %0, %1" : "+r"(even) : "r"(zero));
    __asm__("ssub16 %0, %0, %1" : "+r"(odd) : "r"(zero));
    UF_MULTIPLY_HALVES("bb", sums[0], even, w_even);
    UF_MULTIPLY_HALVES("bb", sums[1], odd, w_odd);
    UF_MULTIPLY_HALVES("tt", sums[2], even, w_even);
    UF_MULTIPLY_HALVES("tt", sums[3], odd, w_odd);
  }
  for (int32_t c = 0; c < count % 4; ++c) sums[c] += (x[c] - zero_point) * w[c];
}

#endif

#endif  // UNFLOAT_KERNELS_DSP_H_
