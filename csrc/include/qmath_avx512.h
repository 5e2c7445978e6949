// Vector forms of qmath.h and qmath_add.h for AVX-512 VNNI (C11): rescaling 16 accumulators to bytes, with the bits of
// qmath_requantize, and adding 16 pairs of bytes.
//
// Rescaling has three forms. The *exact* form follows the definition with 64-bit products, and takes any multiplier and
// shift. The *absorbed* form costs a third of it and is what kernels run nearly always: the roundings and the zero
// point vanish into the accumulator's start value and one added constant, found at load (see qmath_absorb). It takes
// AVX-512 IFMA; CPUs that have only VNNI run the *shifted* form: the same at each channel's own shift, as AVX2 and NEON
// absorb.

#ifndef UNFLOAT_QMATH_AVX512_H_
#define UNFLOAT_QMATH_AVX512_H_

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#include "qmath.h"
#include "qmath_absorb.h"
#include "qmath_add.h"

enum { QMATH_ABSORBED_BITS = 52 };  // what vpmadd52huq shifts by

// Instructions as assembly: one that adds a product to its first operand, and none, after which the compiler no longer
// knows where a value came from. Tests put functions in their place for CPUs without AVX-512 (tests/native/emulated).
#ifndef QMATH_ACCUMULATE
#define QMATH_ACCUMULATE(instruction, acc, x, w) __asm__(#instruction " %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w))
#define QMATH_OPAQUE(x) __asm__("" : "+v"(x))
#endif

// --- Sixteen lanes. ---

// What negative accumulators of 16 channels take besides: nothing, where a channel is straight.
typedef struct {
  uint32_t below[16];  // an accumulator whose sum with its offset is below it is negative
  int32_t offset[16];
  int32_t addend[16];
} qmath_bend16;

// Constants of 16 channels; 64-bit ones are split into [0] the even lanes and [1] the odd lanes.
typedef struct {
  uint64_t factor[2][8];
  int64_t addend[2][8];
  qmath_bend16 bend;
} qmath_absorbed16;

typedef struct {
  uint64_t factor[2][8];
  int64_t right[2][8];
  int32_t addend[16];
  qmath_bend16 bend;
} qmath_shifted16;

typedef struct {
  int32_t multiplier[16];
  int32_t left[16];
  int64_t nudge[2][8];  // the roundings' constants
  int64_t sign[2][8];   // 2^31 where a negative high product loses one (double rounding, right shift): ties away from 0
  int64_t right[2][8];
  int32_t floor[16];  // the clamp's bounds before the zero point is added, which are small numbers
  int32_t ceiling[16];
  int32_t zero_point[16];
} qmath_exact16;

static inline void qmath_bend16_set(qmath_bend16 *bend, int lane, const qmath_absorbed *absorbed) {
  bend->below[lane] = (uint32_t)absorbed->offset;
  bend->offset[lane] = (int32_t)(absorbed->negative_offset - absorbed->offset);
  bend->addend[lane] = (int32_t)(absorbed->negative_addend - absorbed->addend);
}

static inline void qmath_absorbed16_set(qmath_absorbed16 *lanes, int lane, const qmath_absorbed *absorbed) {
  lanes->factor[lane & 1][lane >> 1] = absorbed->factor;
  lanes->addend[lane & 1][lane >> 1] = absorbed->addend;
  qmath_bend16_set(&lanes->bend, lane, absorbed);
}

// `bits` is the shift that the channel was absorbed at.
static inline void qmath_shifted16_set(qmath_shifted16 *lanes, int lane, const qmath_absorbed *absorbed, int bits) {
  lanes->factor[lane & 1][lane >> 1] = absorbed->factor;
  lanes->right[lane & 1][lane >> 1] = bits;
  lanes->addend[lane] = (int32_t)absorbed->addend;
  qmath_bend16_set(&lanes->bend, lane, absorbed);
}

static inline void qmath_exact16_set(qmath_exact16 *lanes, int lane, const qmath_channel *channel) {
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

// Lanes of two vectors that hold results in the low half of each 64-bit element. The compiler is made to compute them
// here: gcc 12 would put the merge off until its use, keep both halves alive and spill a tile of them.
QMATH_INLINE __m512i qmath_merge_even_odd(__m512i even, __m512i odd) {
  __m512i merged =
      _mm512_castps_si512(_mm512_mask_moveldup_ps(_mm512_castsi512_ps(even), 0xaaaa, _mm512_castsi512_ps(odd)));
  QMATH_OPAQUE(merged);
  return merged;
}

// floor(a * b / 2^52) + addend on unsigned 52-bit numbers. Assembly, so that a file built without AVX-512 IFMA may hold
// it; qmath_has_absorbed16 says whether this CPU may run it.
QMATH_INLINE __m512i qmath_multiply_high52(__m512i addend, __m512i a, __m512i b) {
  QMATH_ACCUMULATE(vpmadd52huq, addend, a, b);
  return addend;
}

#ifdef UF_EMULATED
static inline bool qmath_has_absorbed16(void) { return emulated_has_ifma(); }
#else
static inline bool qmath_has_absorbed16(void) { return __builtin_cpu_supports("avx512ifma"); }
#endif

// The constants in registers, to be loaded once for several vectors.
typedef struct {
  __m512i factor_even, factor_odd, addend_even, addend_odd;
} qmath_absorbed16_registers;

QMATH_INLINE qmath_absorbed16_registers qmath_absorbed16_load(const qmath_absorbed16 *lanes) {
  const qmath_absorbed16_registers registers = {
      _mm512_load_si512(lanes->factor[0]), _mm512_load_si512(lanes->factor[1]), _mm512_load_si512(lanes->addend[0]),
      _mm512_load_si512(lanes->addend[1])};
  return registers;
}

// Accumulators that started with `offset` added to 32-bit results, zero point included, not clamped.
QMATH_INLINE __m512i qmath_rescale_absorbed16(__m512i accumulator, const qmath_absorbed16_registers *lanes) {
  const __m512i even = _mm512_maskz_mov_epi32(0x5555, accumulator);
  const __m512i odd = _mm512_srli_epi64(accumulator, 32);
  return qmath_merge_even_odd(qmath_multiply_high52(lanes->addend_even, even, lanes->factor_even),
                              qmath_multiply_high52(lanes->addend_odd, odd, lanes->factor_odd));
}

QMATH_INLINE __mmask16 qmath_negative16(__m512i accumulator, const qmath_bend16 *bend) {
  return _mm512_cmplt_epu32_mask(accumulator, _mm512_load_si512(bend->below));
}

QMATH_INLINE __m512i qmath_add_where16(__m512i x, __mmask16 where, const int32_t *more) {
  return _mm512_mask_add_epi32(x, where, x, _mm512_load_si512(more));
}

// The same where some of the channels are bent.
QMATH_INLINE __m512i qmath_rescale_bent16(__m512i accumulator, const qmath_absorbed16_registers *lanes,
                                          const qmath_bend16 *bend) {
  const __mmask16 negative = qmath_negative16(accumulator, bend);
  const __m512i moved = qmath_add_where16(accumulator, negative, bend->offset);
  return qmath_add_where16(qmath_rescale_absorbed16(moved, lanes), negative, bend->addend);
}

// The same, bent or not, where each channel is shifted by as much as its own multiplier asks for.
QMATH_INLINE __m512i qmath_rescale_shifted16(__m512i accumulator, const qmath_shifted16 *lanes) {
  const __mmask16 negative = qmath_negative16(accumulator, &lanes->bend);
  const __m512i moved = qmath_add_where16(accumulator, negative, lanes->bend.offset);
  const __m512i even = _mm512_mul_epu32(moved, _mm512_load_si512(lanes->factor[0]));
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(moved, 32), _mm512_load_si512(lanes->factor[1]));
  const __m512i merged = qmath_merge_even_odd(_mm512_srlv_epi64(even, _mm512_load_si512(lanes->right[0])),
                                              _mm512_srlv_epi64(odd, _mm512_load_si512(lanes->right[1])));
  const __m512i result = _mm512_add_epi32(merged, _mm512_load_si512(lanes->addend));
  return qmath_add_where16(result, negative, lanes->bend.addend);
}

QMATH_INLINE __m512i qmath_rescale_exact8(__m512i accumulator, __m512i multiplier, const qmath_exact16 *lanes,
                                          int odd) {
  const __m512i product = _mm512_mul_epi32(accumulator, multiplier);
  const __m512i nudged = _mm512_add_epi64(product, _mm512_load_si512(lanes->nudge[odd]));
  // The first rounding's result is negative: (product + 2^30) >> 31 < 0.
  const __mmask8 negative = _mm512_cmplt_epi64_mask(product, _mm512_set1_epi64(-((int64_t)1 << 30)));
  const __m512i sign = _mm512_load_si512(lanes->sign[odd]);
  return _mm512_srav_epi64(_mm512_mask_sub_epi64(nudged, negative, nudged, sign), _mm512_load_si512(lanes->right[odd]));
}

// Accumulators to clamped bytes in 32-bit lanes.
QMATH_INLINE __m512i qmath_rescale_exact16(__m512i accumulator, const qmath_exact16 *lanes) {
  const __m512i shifted = _mm512_sllv_epi32(accumulator, _mm512_load_si512(lanes->left));
  const __m512i multiplier = _mm512_load_si512(lanes->multiplier);
  const __m512i even = qmath_rescale_exact8(shifted, multiplier, lanes, 0);
  const __m512i odd = qmath_rescale_exact8(_mm512_srli_epi64(shifted, 32), _mm512_srli_epi64(multiplier, 32), lanes, 1);
  const __m512i raised = _mm512_max_epi32(qmath_merge_even_odd(even, odd), _mm512_load_si512(lanes->floor));
  return _mm512_add_epi32(_mm512_min_epi32(raised, _mm512_load_si512(lanes->ceiling)),
                          _mm512_load_si512(lanes->zero_point));
}

// --- Sixteen additions. ---

// A plane of qmath_add.h in registers.
typedef struct {
  __m512i low_factors, high_factors, low_constant, high_constant;
  __m128i shift;
} qmath_half_plane16;

QMATH_INLINE qmath_half_plane16 qmath_half_plane16_set(const qmath_half_plane *plane) {
  const qmath_half_plane16 registers = {_mm512_set1_epi32(plane->low_factors), _mm512_set1_epi32(plane->high_factors),
                                        _mm512_set1_epi32(plane->low_constant), _mm512_set1_epi32(plane->high_constant),
                                        _mm_cvtsi32_si128(plane->shift)};
  return registers;
}

// The heights, not clamped, over 16 pairs of 16-bit numbers. The low sum never exceeds 2^25, the high one 2^31.
QMATH_INLINE __m512i qmath_add_on_plane16(__m512i pairs, const qmath_half_plane16 *plane) {
  const __m512i low = _mm512_dpwssd_epi32(plane->low_constant, pairs, plane->low_factors);
  const __m512i high = _mm512_add_epi32(_mm512_srai_epi32(low, 16), plane->high_constant);
  return _mm512_sra_epi32(_mm512_dpwssd_epi32(high, pairs, plane->high_factors), plane->shift);
}

// Constants of 8 channels for accumulators of 64 bits.
typedef struct {
  int64_t multiplier[8], half[8], shift[8];
} qmath_acc64x8;

static inline void qmath_acc64x8_set(qmath_acc64x8 *lanes, int lane, int32_t reduced_multiplier, int shift) {
  lanes->multiplier[lane] = reduced_multiplier;
  lanes->half[lane] = (int64_t)1 << (14 - shift);
  lanes->shift[lane] = 15 - shift;
}

// 64-bit accumulators to 64-bit results: qmath_requantize_acc64 of 8 channels.
QMATH_INLINE __m512i qmath_requantize_acc64x8(__m512i accumulators, const qmath_acc64x8 *lanes) {
  const __m512i product = _mm512_mullo_epi64(accumulators, _mm512_loadu_si512(lanes->multiplier));
  const __m512i rounded = _mm512_add_epi64(product, _mm512_loadu_si512(lanes->half));
  return _mm512_srav_epi64(rounded, _mm512_loadu_si512(lanes->shift));
}

#endif  // UNFLOAT_QMATH_AVX512_H_
