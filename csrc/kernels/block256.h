// What a block of 16 output channels needs besides its weights, and how its accumulators become bytes, with vectors of
// 256 bits (C11, AVX2). Shared by the convolutions and the fully connected kernel.

#ifndef UNFLOAT_KERNELS_BLOCK256_H_
#define UNFLOAT_KERNELS_BLOCK256_H_

#include <immintrin.h>
#include <string.h>

#include "channel.h"
#include "qmath_avx2.h"

#define UF_INLINE static inline __attribute__((always_inline))

enum { UF_BLOCK256_CHANNELS = 16 };

// How the accumulators of a block become bytes (see qmath_avx2.h).
typedef enum { UF_ABSORBED256, UF_BENT256, UF_EXACT256 } uf_form256;

typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t start[2][8];  // bias, input zero point and offset
  union {
    qmath_absorbed8 absorbed[2];
    qmath_exact8 exact[2];
  } rescale;
  _Alignas(UF_ALIGNMENT) uf_form256 form;
  uint8_t clamp_min, clamp_max;
} uf_block256;

static inline uf_form256 uf_absorb_all256(const qmath_channel *channels, int count, qmath_absorbed *absorbed) {
  uf_form256 form = UF_ABSORBED256;
  for (int c = 0; c < count && form != UF_EXACT256; ++c) {
    if (!qmath_absorb(&channels[c], qmath_own_bits(&channels[c]), &absorbed[c])) form = UF_EXACT256;
    if (form == UF_ABSORBED256 && qmath_is_bent(&absorbed[c])) form = UF_BENT256;
  }
  return form;
}

// The constants of the channels [first, first + count), whose weights have these sums; lanes of others stay zero, and
// so do the bytes behind them. `lane_channel` says which channel a lane holds.
static inline void uf_pack_block256(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                                    int (*lane_channel)(int vector, int lane), uf_block256 *block) {
  qmath_channel channels[UF_BLOCK256_CHANNELS];
  qmath_absorbed absorbed[UF_BLOCK256_CHANNELS];
  for (int c = 0; c < count; ++c) channels[c] = uf_channel_of(linear, first + c, &sums[c]);
  block->form = uf_absorb_all256(channels, count, absorbed);
  block->clamp_min = (uint8_t)linear->output.clamp_min;
  block->clamp_max = (uint8_t)linear->output.clamp_max;
  for (int i = 0; i < UF_BLOCK256_CHANNELS; ++i) {
    const int vector = i / 8, lane = i % 8, c = lane_channel(vector, lane);
    if (c >= count) continue;
    int64_t start = uf_start_of(linear, first + c, &sums[c]);
    if (block->form == UF_EXACT256) {
      qmath_exact8_set(&block->rescale.exact[vector], lane, &channels[c]);
    } else {
      start += absorbed[c].offset;
      qmath_absorbed8_set(&block->rescale.absorbed[vector], lane, &absorbed[c], qmath_own_bits(&channels[c]));
    }
    block->start[vector][lane] = (int32_t)(uint32_t)start;
  }
}

// --- Rescaling and storing. ---

// Sums of products to 32-bit results, not clamped.
UF_INLINE __m256i uf_rescale256(__m256i sum, const uf_block256 *block, int vector) {
  const __m256i started = _mm256_add_epi32(sum, qmath_load8(block->start[vector]));
  if (__builtin_expect(block->form == UF_ABSORBED256, 1)) {
    return qmath_rescale_absorbed8(started, &block->rescale.absorbed[vector]);
  }
  return block->form == UF_BENT256 ? qmath_rescale_bent8(started, &block->rescale.absorbed[vector])
                                   : qmath_rescale_exact8(started, &block->rescale.exact[vector]);
}

UF_INLINE __m128i uf_clamp256(__m128i bytes, const uf_block256 *block) {
  const __m128i raised = _mm_max_epu8(bytes, _mm_set1_epi8((char)block->clamp_min));
  return _mm_min_epu8(raised, _mm_set1_epi8((char)block->clamp_max));
}

// Stores the first `count` of 16 bytes.
UF_INLINE void uf_store256(uint8_t *out, __m128i bytes, int64_t count) {
  if (count >= UF_BLOCK256_CHANNELS) {
    _mm_storeu_si128((__m128i *)out, bytes);
  } else {
    uint8_t all[UF_BLOCK256_CHANNELS];
    _mm_storeu_si128((__m128i *)all, bytes);
    memcpy(out, all, (size_t)count);
  }
}

#endif  // UNFLOAT_KERNELS_BLOCK256_H_
