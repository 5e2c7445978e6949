// dsp.h with Helium, Arm's M-profile vectors: 16 products of bytes an instruction.

#ifndef UNFLOAT_KERNELS_DSP_HELIUM_H_
#define UNFLOAT_KERNELS_DSP_HELIUM_H_

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

// sums[c] += sum over the taps of w[c] * (x[c] - zero_point), of `count` channels from `first` on, at most eight: the
// even ones and the odd ones apart.
static inline void uf_sum_eight_channels(const uf_patch *patch, int32_t zero_point, ptrdiff_t first, int32_t count,
                                         int32_t *sums) {
  const mve_pred16_t some = vctp16q((uint32_t)count);
  const uint8_t *x_row = patch->x + first;
  const int8_t *w_row = patch->w + first;
  int32x4x2_t totals = {{vdupq_n_s32(0), vdupq_n_s32(0)}};
  for (int32_t i = patch->rows; i > 0; --i, x_row += patch->x_row, w_row += patch->w_row) {
    const uint8_t *x = x_row;
    const int8_t *w = w_row;
    for (int32_t j = patch->columns; j > 0; --j, x += patch->x_step, w += patch->w_step) {
      const int16x8_t v = vsubq_n_s16(vreinterpretq_s16_u16(vldrbq_z_u16(x, some)), (int16_t)zero_point);
      const int16x8_t weights = vldrbq_z_s16(w, some);
      totals.val[0] = vaddq_s32(totals.val[0], vmullbq_int_s16(v, weights));
      totals.val[1] = vaddq_s32(totals.val[1], vmulltq_int_s16(v, weights));
    }
  }
  int32_t steps[8];
  vst2q_s32(steps, totals);
  for (int32_t c = 0; c < count; c += 4) {
    const mve_pred16_t lanes = vctp32q((uint32_t)(count - c));
    vstrwq_p_s32(sums + c, vaddq_s32(vldrwq_z_s32(sums + c, lanes), vldrwq_s32(steps + c)), lanes);
  }
}

// sums[c] += sum over the taps of w[c] * (x - zero_point), of four channels from `first` on that see one input channel.
static inline void uf_sum_four_multiples(const uf_patch *patch, int32_t zero_point, ptrdiff_t input, ptrdiff_t first,
                                         int32_t *sums) {
  const uint8_t *x_row = patch->x + input;
  const int8_t *w_row = patch->w + first;
  int32x4_t totals = vldrwq_s32(sums);
  for (int32_t i = patch->rows; i > 0; --i, x_row += patch->x_row, w_row += patch->w_row) {
    const uint8_t *x = x_row;
    const int8_t *w = w_row;
    for (int32_t j = patch->columns; j > 0; --j, x += patch->x_step, w += patch->w_step) {
      totals = vmlaq_n_s32(totals, vldrbq_s32(w), *x - zero_point);
    }
  }
  vstrwq_s32(sums, totals);
}

// Adds to the sums of `count` channels, from `first` on, their products with the taps.
static inline void uf_sum_patch(const uf_patch *patch, int32_t zero_point, ptrdiff_t first, int32_t count,
                                int32_t *sums) {
  for (int32_t c = 0; c < count; c += 8) {
    uf_sum_eight_channels(patch, zero_point, first + c, count - c < 8 ? count - c : 8, sums + c);
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

static inline int32_t uf_sum_weights(const int8_t *w, ptrdiff_t count) {
  int32_t total = 0;
  for (ptrdiff_t left = count; left > 0; left -= 16, w += 16) {
    total = vaddvaq_s8(total, vldrbq_z_s8(w, vctp8q((uint32_t)left)));
  }
  return total;
}

// sums[p][r] += sum of w[r][i] * (x[p][i] - zero_point). Inputs become signed bytes, so the zero point is taken off
// once for all pixels, by the sums of the weights.
static inline void uf_sum_strip(const uf_strip *strip, int32_t zero_point, int32_t *sums) {
  int32_t begin[UF_STRIP_ROWS];
  for (int r = 0; r < UF_STRIP_ROWS; ++r) {
    const uint32_t weights = (uint32_t)uf_sum_weights(strip->w + r * strip->w_step, strip->count);
    begin[r] = (int32_t)((uint32_t)(128 - zero_point) * weights);
  }
  const uint8_t *pixel = strip->x;
  for (int32_t p = strip->pixels; p > 0; --p, pixel += strip->x_step, sums += UF_STRIP_ROWS) {
    const uint8_t *x = pixel;
    const int8_t *w0 = strip->w, *w1 = w0 + strip->w_step, *w2 = w1 + strip->w_step, *w3 = w2 + strip->w_step;
    int32_t s0 = begin[0], s1 = begin[1], s2 = begin[2], s3 = begin[3];
    for (ptrdiff_t left = strip->count; left > 0; left -= 16, x += 16, w0 += 16, w1 += 16, w2 += 16, w3 += 16) {
      const mve_pred16_t some = vctp8q((uint32_t)left);
      const int8x16_t v = vreinterpretq_s8_u8(veorq_u8(vldrbq_z_u8(x, some), vdupq_n_u8(0x80)));
      s0 = vmladavaq_s8(s0, v, vldrbq_z_s8(w0, some));
      s1 = vmladavaq_s8(s1, v, vldrbq_z_s8(w1, some));
      s2 = vmladavaq_s8(s2, v, vldrbq_z_s8(w2, some));
      s3 = vmladavaq_s8(s3, v, vldrbq_z_s8(w3, some));
    }
    const int32_t steps[UF_STRIP_ROWS] = {s0, s1, s2, s3};
    vstrwq_s32(sums, vaddq_s32(vldrwq_s32(sums), vldrwq_s32(steps)));
  }
}

// A strip's accumulators to bytes, rounded twice; pixels of the output lie `step` apart.
static inline void uf_emit_strip(const int32_t *sums, int32_t pixels, const int32_t *multipliers, const int8_t *shifts,
                                 int32_t zero_point, int32_t low, int32_t high, ptrdiff_t step, uint8_t *out) {
  const int32x4_t multiplier = vldrwq_s32(multipliers), shift = vldrbq_s32(shifts);
  for (; pixels > 0; --pixels, sums += UF_STRIP_ROWS, out += step) {
    const int32x4_t steps = qmath_mve_requantize_double(vldrwq_s32(sums), multiplier, shift);
    vstrbq_u32(out, vreinterpretq_u32_s32(qmath_mve_clamp_sum(steps, zero_point, low, high)));
  }
}

#endif  // UNFLOAT_KERNELS_DSP_HELIUM_H_
