// Vector forms of qmath.h for AVX2 (C11): rescaling 8 accumulators to bytes, with the bits of qmath_requantize.
//
// The *absorbed* form (see qmath_absorb.h) is what kernels run nearly always. Its shift is the channel's own, which
// keeps the multiplier whole: AVX2 has no multiplication that shifts. The *exact* form follows the definition and takes
// any multiplier and shift.

#ifndef UNFLOAT_QMATH_AVX2_H_
#define UNFLOAT_QMATH_AVX2_H_

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "qmath.h"
#include "qmath_absorb.h"

// Constants of 8 channels; 64-bit ones are split into [0] the even lanes and [1] the odd lanes.
typedef struct {
  uint64_t factor[2][4];
  uint32_t right[8];  // shifts of the products' high halves
  int32_t bend[8];    // accumulator + offset below it: the accumulator is negative, and bent channels add this:
  int32_t bend_offset[8];
} qmath_absorbed8;

typedef struct {
  int32_t multiplier[8];
  int32_t left[8];
  int64_t nudge[2][4];  // the roundings' constants
  int64_t sign[2][4];   // 2^31 where a negative high product loses one (double rounding, right shift): ties away from 0
  int64_t right[2][4];
  int32_t floor[8];  // the clamp's bounds before the zero point is added, which are small numbers
  int32_t ceiling[8];
  int32_t zero_point[8];
} qmath_exact8;

// `bits` is the shift that the channel was absorbed at, at least 32.
static inline void qmath_absorbed8_set(qmath_absorbed8 *lanes, int lane, const qmath_absorbed *absorbed, int bits) {
  lanes->factor[lane & 1][lane >> 1] = absorbed->factor;
  lanes->right[lane] = (uint32_t)(bits - 32);
  lanes->bend[lane] = (int32_t)absorbed->offset;
  lanes->bend_offset[lane] = (int32_t)(absorbed->negative_offset - absorbed->offset);
}

static inline void qmath_exact8_set(qmath_exact8 *lanes, int lane, const qmath_channel *channel) {
  const qmath_exact exact = qmath_exact_of(channel);
  lanes->multiplier[lane] = channel->multiplier;
  lanes->left[lane] = exact.left;
  lanes->nudge[lane & 1][lane >> 1] = exact.nudge;
  lanes->sign[lane & 1][lane >> 1] = exact.sign;
  lanes->right[lane & 1][lane >> 1] = exact.right;
  lanes->floor[lane] = exact.floor;
  lanes->ceiling[lane] = exact.ceiling;
  lanes->zero_point[lane] = channel->zero_point;
}

QMATH_INLINE __m256i qmath_load8(const void *values) { return _mm256_load_si256((const __m256i *)values); }

// Lanes of two vectors that hold results in the low half of each 64-bit element.
QMATH_INLINE __m256i qmath_merge8(__m256i even, __m256i odd) {
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

// Accumulators that started with `offset`, below 2^31, to 32-bit results that lack the absorbed form's addend.
QMATH_INLINE __m256i qmath_rescale_absorbed8(__m256i accumulator, const qmath_absorbed8 *lanes) {
  const __m256i even = _mm256_mul_epu32(accumulator, qmath_load8(lanes->factor[0]));
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(accumulator, 32), qmath_load8(lanes->factor[1]));
  const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  return _mm256_srlv_epi32(high, qmath_load8(lanes->right));
}

// Which accumulators were negative before they started with `offset`.
QMATH_INLINE __m256i qmath_negative8(__m256i accumulator, const qmath_absorbed8 *lanes) {
  return _mm256_cmpgt_epi32(qmath_load8(lanes->bend), accumulator);
}

// The same where some of the channels are bent: negative ones lack the negative addend.
QMATH_INLINE __m256i qmath_rescale_bent8(__m256i accumulator, __m256i negative, const qmath_absorbed8 *lanes) {
  const __m256i more = _mm256_and_si256(negative, qmath_load8(lanes->bend_offset));
  return qmath_rescale_absorbed8(_mm256_add_epi32(accumulator, more), lanes);
}

// An arithmetic shift, which AVX2 lacks, of numbers of a magnitude below 2^62.
QMATH_INLINE __m256i qmath_shift_right4(__m256i x, __m256i count) {
  const __m256i raise = _mm256_set1_epi64x((int64_t)1 << 62);
  return _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_add_epi64(x, raise), count), _mm256_srlv_epi64(raise, count));
}

QMATH_INLINE __m256i qmath_rescale_exact4(__m256i accumulator, __m256i multiplier, const qmath_exact8 *lanes, int odd) {
  const __m256i product = _mm256_mul_epi32(accumulator, multiplier);
  const __m256i nudged = _mm256_add_epi64(product, qmath_load8(lanes->nudge[odd]));
  // The first rounding's result is negative: (product + 2^30) >> 31 < 0.
  const __m256i negative = _mm256_cmpgt_epi64(_mm256_set1_epi64x(-((int64_t)1 << 30)), product);
  const __m256i sign = _mm256_and_si256(negative, qmath_load8(lanes->sign[odd]));
  return qmath_shift_right4(_mm256_sub_epi64(nudged, sign), qmath_load8(lanes->right[odd]));
}

// Accumulators to clamped bytes in 32-bit lanes.
QMATH_INLINE __m256i qmath_rescale_exact8(__m256i accumulator, const qmath_exact8 *lanes) {
  const __m256i shifted = _mm256_sllv_epi32(accumulator, qmath_load8(lanes->left));
  const __m256i multiplier = qmath_load8(lanes->multiplier);
  const __m256i even = qmath_rescale_exact4(shifted, multiplier, lanes, 0);
  const __m256i odd = qmath_rescale_exact4(_mm256_srli_epi64(shifted, 32), _mm256_srli_epi64(multiplier, 32), lanes, 1);
  const __m256i raised = _mm256_max_epi32(qmath_merge8(even, odd), qmath_load8(lanes->floor));
  return _mm256_add_epi32(_mm256_min_epi32(raised, qmath_load8(lanes->ceiling)), qmath_load8(lanes->zero_point));
}

#endif  // UNFLOAT_QMATH_AVX2_H_
