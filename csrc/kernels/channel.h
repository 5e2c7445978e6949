// What the vector levels need to know of an output channel of a linear operator (C11).

#ifndef UNFLOAT_KERNELS_CHANNEL_H_
#define UNFLOAT_KERNELS_CHANNEL_H_

#include "kernel.h"
#include "qmath_absorb.h"

#define UF_INLINE static inline __attribute__((always_inline))

static inline int64_t uf_divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows, one at least, in tiles as even as can be: first the greater ones, then those of a row less.
typedef struct {
  int64_t greater, lesser;  // how many there are
  int64_t least;            // rows of a lesser one; the greater have one more
} uf_tiling;

static inline uf_tiling uf_tiles_of(int64_t rows, int64_t most_rows) {
  const int64_t tiles = uf_divide_up(rows, most_rows), greater = rows % tiles;
  const uf_tiling tiling = {greater, tiles - greater, rows / tiles};
  return tiling;
}

// The sums of a channel's negative and positive weights: all that its bounds and its zero point correction depend on.
typedef struct {
  int64_t negative, positive;
} uf_weight_sums;

enum { UF_SUMMED_AT_ONCE = 224 };  // weights whose sum fits 16 bits, of which a vector holds twice as many as of 32

// Of `count` weights, `stride` apart.
UF_INLINE uf_weight_sums uf_sum_weights(const int8_t *weight, int64_t count, int64_t stride) {
  uf_weight_sums sums = {0, 0};
  for (int64_t first = 0; first < count; first += UF_SUMMED_AT_ONCE) {
    const int64_t end = count - first < UF_SUMMED_AT_ONCE ? count : first + UF_SUMMED_AT_ONCE;
    int16_t all = 0, positive = 0;
    for (int64_t i = first; i < end; ++i) {
      const int8_t w = weight[i * stride];
      all = (int16_t)(all + w);
      positive = (int16_t)(positive + (w > 0 ? w : 0));
    }
    sums.negative += all - positive;
    sums.positive += positive;
  }
  return sums;
}

// The accumulator's value before any product, for which padding counts as zero.
static inline int64_t uf_start_of(const uf_linear *linear, int64_t channel, const uf_weight_sums *sums) {
  return linear->bias[channel] - linear->input_zero_point * (sums->negative + sums->positive);
}

static inline qmath_channel uf_channel_of(const uf_linear *linear, int64_t channel, const uf_weight_sums *sums) {
  const uf_output *output = &linear->output;
  const int64_t start = uf_start_of(linear, channel, sums);
  const qmath_channel result = {
      .multiplier = linear->multiplier[channel],
      .shift = linear->shift[channel],
      .rounding = output->rounding,
      .zero_point = output->zero_point,
      .clamp_min = output->clamp_min,
      .clamp_max = output->clamp_max,
      .low = start + UINT8_MAX * sums->negative,
      .high = start + UINT8_MAX * sums->positive,
  };
  return result;
}

// How the accumulators of a block become bytes, fastest first (see qmath_absorb.h). All but the first clamp. Tables are
// indexed by it.
typedef enum {
  UF_ABSORBED,  // where the clamp is that of bytes
  UF_CLAMPED,   // absorbed too
  UF_BENT,      // in some of the channels
  UF_SHIFTED,   // absorbed, bent or not: AVX-512 without IFMA
  UF_EXACT,
} uf_form;

// Absorbs `count` channels, at `bits` or, where that is 0, at each one's qmath_high_bits; the form that serves them
// all.
static inline uf_form uf_absorb_all(const qmath_channel *channels, int count, int bits, qmath_absorbed *absorbed) {
  uf_form form = UF_ABSORBED;
  for (int c = 0; c < count && form != UF_EXACT; ++c) {
    if (!qmath_absorb(&channels[c], bits > 0 ? bits : qmath_high_bits(&channels[c]), &absorbed[c])) form = UF_EXACT;
    if (form == UF_ABSORBED && qmath_is_bent(&absorbed[c])) form = UF_BENT;
  }
  return form;
}

// The same with the output's clamp.
static inline uf_form uf_with_clamp(uf_form form, const uf_output *output) {
  const bool clamps = output->clamp_min > 0 || output->clamp_max < UINT8_MAX;
  return form == UF_ABSORBED && clamps ? UF_CLAMPED : form;
}

#endif  // UNFLOAT_KERNELS_CHANNEL_H_
