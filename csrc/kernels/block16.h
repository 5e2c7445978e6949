// What a block of 16 output channels needs besides its weights, and how its accumulators become bytes: with vectors of
// 256 bits (AVX2) or 128 (Arm) (C11). Shared by the convolutions and the fully connected kernel.

#ifndef UNFLOAT_KERNELS_BLOCK16_H_
#define UNFLOAT_KERNELS_BLOCK16_H_

#include <string.h>

#include "channel.h"

#ifdef UF_X86_64
#include "qmath_avx2.h"
enum { UF_LANES = 8 };
typedef __m256i uf_vector;
typedef __m128i uf_bytes;
typedef qmath_absorbed8 uf_absorbed_lanes;
typedef qmath_exact8 uf_exact_lanes;
#define UF_LANED(name) name##8
#define UF_SET_LANED(name) name##8_set
#else
#include "qmath_neon.h"
enum { UF_LANES = 4 };
typedef int32x4_t uf_vector;
typedef uint8x16_t uf_bytes;
typedef qmath_absorbed4 uf_absorbed_lanes;
typedef qmath_exact4 uf_exact_lanes;
#define UF_LANED(name) name##4
#define UF_SET_LANED(name) name##4_set
#endif

enum { UF_BLOCK_CHANNELS = 16, UF_BLOCK_VECTORS = UF_BLOCK_CHANNELS / UF_LANES };

typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t start[UF_BLOCK_VECTORS][UF_LANES];  // bias, input zero point and offset
  union {
    uf_absorbed_lanes absorbed[UF_BLOCK_VECTORS];
    uf_exact_lanes exact[UF_BLOCK_VECTORS];
  } rescale;
  _Alignas(UF_ALIGNMENT) int16_t addend[UF_BLOCK_CHANNELS];  // of the absorbed forms, where narrowing puts their words
  int16_t negative_addend[UF_BLOCK_CHANNELS];
  uf_form form;
  uint8_t clamp_min, clamp_max;
} uf_block16;

// Where the words of two vectors of 32-bit numbers (AVX2), or of four (Arm), come to lie.
static inline int uf_word_place(int vector, int lane) {
#ifdef UF_X86_64
  return lane / 4 * 8 + vector * 4 + lane % 4;
#else
  return vector * UF_LANES + lane;
#endif
}

// The constants of the channels [first, first + count), whose weights have these sums; lanes of others stay zero, and
// so do the bytes behind them. `lane_channel` says which channel a lane holds. The kernel multiplies by bytes
// less `lowered`: by 128 where it takes them for signed ones.
static inline void uf_pack_block16(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                                   int64_t lowered, int (*lane_channel)(int vector, int lane), uf_block16 *block) {
  qmath_channel channels[UF_BLOCK_CHANNELS];
  qmath_absorbed absorbed[UF_BLOCK_CHANNELS];
  for (int c = 0; c < count; ++c) channels[c] = uf_channel_of(linear, first + c, &sums[c]);
  block->form = uf_with_clamp(uf_absorb_all(channels, count, 0, absorbed), &linear->output);
  for (int c = 0; c < count && block->form != UF_EXACT; ++c) {
    if (!qmath_adds_to_words(&channels[c], &absorbed[c])) block->form = UF_EXACT;
  }
  block->clamp_min = (uint8_t)linear->output.clamp_min;
  block->clamp_max = (uint8_t)linear->output.clamp_max;
  for (int i = 0; i < UF_BLOCK_CHANNELS; ++i) {
    const int vector = i / UF_LANES, lane = i % UF_LANES, c = lane_channel(vector, lane);
    if (c >= count) continue;
    int64_t start = uf_start_of(linear, first + c, &sums[c]) + lowered * (sums[c].negative + sums[c].positive);
    if (block->form == UF_EXACT) {
      UF_SET_LANED(qmath_exact)(&block->rescale.exact[vector], lane, &channels[c]);
    } else {
      start += absorbed[c].offset;
      block->addend[uf_word_place(vector, lane)] = (int16_t)absorbed[c].addend;
      block->negative_addend[uf_word_place(vector, lane)] = (int16_t)absorbed[c].negative_addend;
      UF_SET_LANED(qmath_absorbed)(&block->rescale.absorbed[vector], lane, &absorbed[c], qmath_high_bits(&channels[c]));
    }
    block->start[vector][lane] = (int32_t)(uint32_t)start;
  }
}

// --- Rescaling and storing. ---

#ifdef UF_X86_64

UF_INLINE uf_vector uf_start(const uf_block16 *block, int vector) { return qmath_load8(block->start[vector]); }

UF_INLINE uf_vector uf_started(uf_vector sum, const uf_block16 *block, int vector) {
  return _mm256_add_epi32(sum, uf_start(block, vector));
}

UF_INLINE uf_bytes uf_clamped(uf_form form, uf_bytes bytes, const uf_block16 *block) {
  if (form == UF_ABSORBED) return bytes;
  const uf_bytes raised = _mm_max_epu8(bytes, _mm_set1_epi8((char)block->clamp_min));
  return _mm_min_epu8(raised, _mm_set1_epi8((char)block->clamp_max));
}

UF_INLINE uf_bytes uf_load_bytes(const uint8_t *x) { return _mm_loadu_si128((const __m128i *)x); }
UF_INLINE uf_bytes uf_load_half(const uint8_t *x) { return _mm_loadl_epi64((const __m128i *)x); }
UF_INLINE void uf_store_bytes(uint8_t *out, uf_bytes bytes) { _mm_storeu_si128((__m128i *)out, bytes); }
UF_INLINE void uf_store_half(uint8_t *out, uf_bytes bytes) { _mm_storel_epi64((__m128i *)out, bytes); }

#else

UF_INLINE uf_vector uf_start(const uf_block16 *block, int vector) { return vld1q_s32(block->start[vector]); }

UF_INLINE uf_bytes uf_clamped(uf_form form, uf_bytes bytes, const uf_block16 *block) {
  if (form == UF_ABSORBED) return bytes;
  return vminq_u8(vmaxq_u8(bytes, vdupq_n_u8(block->clamp_min)), vdupq_n_u8(block->clamp_max));
}

UF_INLINE uf_bytes uf_load_bytes(const uint8_t *x) { return vld1q_u8(x); }
UF_INLINE uf_bytes uf_load_half(const uint8_t *x) { return vcombine_u8(vld1_u8(x), vdup_n_u8(0)); }
UF_INLINE void uf_store_bytes(uint8_t *out, uf_bytes bytes) { vst1q_u8(out, bytes); }
UF_INLINE void uf_store_half(uint8_t *out, uf_bytes bytes) { vst1_u8(out, vget_low_u8(bytes)); }

#endif

// 32-bit results that lack their addends, and which of them take the negative one in a bent block.
typedef struct {
  uf_vector result, negative;
} uf_scaled;

// Accumulators that began at the block's start to results, not clamped. The form is the block's; loops where it is
// constant are compiled without the others.
UF_INLINE uf_scaled uf_scaled_as(uf_form form, uf_vector started, const uf_block16 *block, int vector) {
  const uf_absorbed_lanes *absorbed = &block->rescale.absorbed[vector];
  uf_scaled scaled = {started, started};
  if (__builtin_expect(form == UF_ABSORBED || form == UF_CLAMPED, 1)) {
    scaled.result = UF_LANED(qmath_rescale_absorbed)(started, absorbed);
  } else if (form == UF_BENT) {
    scaled.negative = UF_LANED(qmath_negative)(started, absorbed);
    scaled.result = UF_LANED(qmath_rescale_bent)(started, scaled.negative, absorbed);
  } else {
    scaled.result = UF_LANED(qmath_rescale_exact)(started, &block->rescale.exact[vector]);
  }
  return scaled;
}

// A pixel's accumulators to bytes, not clamped: of two vectors, whose halves are brought together, or of four in order.
// Results below 0 become 0, those above 255 that.
#ifdef UF_X86_64
UF_INLINE uf_vector uf_load_words(const int16_t *words) { return qmath_load8(words); }

UF_INLINE uf_bytes uf_narrowed(uf_form form, uf_scaled v0, uf_scaled v1, const uf_block16 *block) {
  uf_vector addend = uf_load_words(block->addend);
  if (form == UF_BENT) {
    const uf_vector negative = _mm256_packs_epi32(v0.negative, v1.negative);
    addend = _mm256_blendv_epi8(addend, uf_load_words(block->negative_addend), negative);
  }
  const uf_vector words = _mm256_adds_epi16(_mm256_packs_epi32(v0.result, v1.result), addend);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

UF_INLINE uf_bytes uf_bytes_of_sums(uf_form form, uf_vector v0, uf_vector v1, const uf_block16 *block) {
  return uf_narrowed(form, uf_scaled_as(form, v0, block, 0), uf_scaled_as(form, v1, block, 1), block);
}

// Those of two where the vectors hold the channels in order.
UF_INLINE uf_bytes uf_in_order(uf_bytes bytes) { return _mm_shuffle_epi32(bytes, _MM_SHUFFLE(3, 1, 2, 0)); }

// The 8 bytes of one vector's sums, whose channels are in order.
UF_INLINE uf_bytes uf_half_bytes_of_sums(uf_form form, uf_vector v0, const uf_block16 *block) {
  const uf_scaled scaled = uf_scaled_as(form, v0, block, 0);
  return uf_in_order(uf_narrowed(form, scaled, scaled, block));
}
#else
UF_INLINE int16x8_t uf_words_of(uf_form form, uf_scaled v0, uf_scaled v1, const uf_block16 *block, int first) {
  int16x8_t addend = vld1q_s16(block->addend + first);
  if (form == UF_BENT) {
    const int16x8_t negative = vmovn_high_s32(vmovn_s32(v0.negative), v1.negative);
    addend = vbslq_s16(vreinterpretq_u16_s16(negative), vld1q_s16(block->negative_addend + first), addend);
  }
  return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(v0.result), v1.result), addend);
}

UF_INLINE uf_bytes uf_bytes_of_sums(uf_form form, uf_vector v0, uf_vector v1, uf_vector v2, uf_vector v3,
                                    const uf_block16 *block) {
  const int16x8_t low = uf_words_of(form, uf_scaled_as(form, v0, block, 0), uf_scaled_as(form, v1, block, 1), block, 0);
  const int16x8_t high =
      uf_words_of(form, uf_scaled_as(form, v2, block, 2), uf_scaled_as(form, v3, block, 3), block, 8);
  return vqmovun_high_s16(vqmovun_s16(low), high);
}

// The first 8 of them, twice.
UF_INLINE uf_bytes uf_half_bytes_of_sums(uf_form form, uf_vector v0, uf_vector v1, const uf_block16 *block) {
  const int16x8_t words =
      uf_words_of(form, uf_scaled_as(form, v0, block, 0), uf_scaled_as(form, v1, block, 1), block, 0);
  return vqmovun_high_s16(vqmovun_s16(words), words);
}
#endif

// Loads the first `count` of a block's bytes; what lies behind them may be another thread's.
UF_INLINE uf_bytes uf_load_first(const uint8_t *x, int64_t count) {
  if (count >= UF_BLOCK_CHANNELS) return uf_load_bytes(x);
  if (count == UF_BLOCK_CHANNELS / 2) return uf_load_half(x);
  uint8_t all[UF_BLOCK_CHANNELS] = {0};
  memcpy(all, x, (size_t)count);
  return uf_load_bytes(all);
}

// Stores the first `count` of a block's bytes.
UF_INLINE void uf_store_first(uint8_t *out, uf_bytes bytes, int64_t count) {
  if (count >= UF_BLOCK_CHANNELS) {
    uf_store_bytes(out, bytes);
  } else if (count == UF_BLOCK_CHANNELS / 2) {
    uf_store_half(out, bytes);
  } else {
    uint8_t all[UF_BLOCK_CHANNELS];
    uf_store_bytes(all, bytes);
    memcpy(out, all, (size_t)count);
  }
}

#endif  // UNFLOAT_KERNELS_BLOCK16_H_
