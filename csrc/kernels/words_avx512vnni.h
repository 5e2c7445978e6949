// Products of int16 codes with packed weights (C11, AVX-512 VNNI): what convolution and fully connected share.
//
// A dot product takes two words, so two inputs make a step: the weights of 32 output channels, [steps][32][2] words,
// meet a pair of inputs that is repeated in every lane. Sums of 32 bits hold CHUNK steps at least; then they are
// widened.

#ifndef UNFLOAT_KERNELS_WORDS_AVX512VNNI_H_
#define UNFLOAT_KERNELS_WORDS_AVX512VNNI_H_

#include <immintrin.h>

#include "tile_avx512vnni.h"
#include "words.h"

enum {
  WORD_BLOCK = 32,   // output channels
  WORD_TILE = 6,     // rows, so that the sums stay in registers
  WORD_CHUNK = 255,  // steps: 2^7 * 2^15 twice each
};

// 32 output channels: what their sums start from, and how they leave. The weights follow.
typedef struct {
  _Alignas(UF_ALIGNMENT) int64_t bias[WORD_BLOCK];
  qmath_acc64x8 rescale[WORD_BLOCK / 8];
} word_block;

static inline int64_t uf_word_steps(int64_t depth) { return (depth + 1) / 2; }

static inline size_t uf_word_block_bytes(int64_t depth) {
  return sizeof(word_block) + (size_t)uf_word_steps(depth) * WORD_BLOCK * 2 * sizeof(int16_t);
}

static inline int64_t uf_word_blocks(int64_t channels) { return (channels + WORD_BLOCK - 1) / WORD_BLOCK; }

static inline const word_block *uf_word_block_at(const void *packed, int64_t depth, int64_t index) {
  return (const word_block *)((const uint8_t *)packed + (size_t)index * uf_word_block_bytes(depth));
}

// Packs weights [channels][depth]. `packed` holds zeros.
static inline void uf_pack_words(const uf_linear *linear, int64_t channels, int64_t depth, void *packed) {
  for (int64_t o = 0; o < channels; ++o) {
    const int64_t lane = o % WORD_BLOCK;
    word_block *block = (word_block *)((uint8_t *)packed + (size_t)(o / WORD_BLOCK) * uf_word_block_bytes(depth));
    int16_t *weights = (int16_t *)(void *)(block + 1);
    block->bias[lane] = linear->wide_bias[o];
    qmath_acc64x8_set(&block->rescale[lane / 8], (int)(lane % 8), linear->multiplier[o], linear->shift[o]);
    for (int64_t k = 0; k < depth; ++k) {
      weights[(k / 2 * WORD_BLOCK + lane) * 2 + k % 2] = linear->weight[o * depth + k];
    }
  }
}

// Two words in every lane.
UF_INLINE __m512i uf_word_pair(const int16_t *x) {
  int32_t pair;
  memcpy(&pair, x, sizeof pair);
  return _mm512_set1_epi32(pair);
}

// Codes of eight channels.
UF_INLINE __m128i uf_rescale_words(const qmath_acc64x8 *lanes, __m512i sums, const uf_output *output) {
  const __m512i scaled = qmath_requantize_acc64x8(sums, lanes);
  const __m512i raised = _mm512_max_epi64(scaled, _mm512_set1_epi64(output->clamp_min));
  return _mm512_cvtepi64_epi16(_mm512_min_epi64(raised, _mm512_set1_epi64(output->clamp_max)));
}

// One block's outputs of `count` rows: inputs at rows[r], results at out + r * stride. Reads a word past an odd depth,
// which meets a zero weight.
UF_INLINE void uf_word_tile_of(const word_block *block, const int16_t *const *rows, int64_t steps, int count,
                               const uf_output *output, int64_t channels, int16_t *out, int64_t stride) {
  __m512i wide[WORD_TILE][4];
  for (int r = 0; r < count; ++r) {
    for (int q = 0; q < 4; ++q) wide[r][q] = _mm512_load_si512(block->bias + 8 * q);
  }
  const int16_t *w = (const int16_t *)(const void *)(block + 1);
  for (int64_t begin = 0; begin < steps; begin += WORD_CHUNK) {
    const int64_t end = steps - begin < WORD_CHUNK ? steps : begin + WORD_CHUNK;
    __m512i low[WORD_TILE], high[WORD_TILE];
#pragma GCC unroll 6
    for (int r = 0; r < count; ++r) low[r] = high[r] = _mm512_setzero_si512();
    for (int64_t step = begin; step < end; ++step, w += 2 * WORD_BLOCK) {
      const __m512i first = _mm512_load_si512(w), second = _mm512_load_si512(w + WORD_BLOCK);
#pragma GCC unroll 6
      for (int r = 0; r < count; ++r) {
        const __m512i x = uf_word_pair(rows[r] + 2 * step);
        low[r] = uf_dot2(low[r], x, first);
        high[r] = uf_dot2(high[r], x, second);
      }
    }
#pragma GCC unroll 6
    for (int r = 0; r < count; ++r) {
      const __m512i parts[4] = {_mm512_cvtepi32_epi64(_mm512_castsi512_si256(low[r])),
                                _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(low[r], 1)),
                                _mm512_cvtepi32_epi64(_mm512_castsi512_si256(high[r])),
                                _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(high[r], 1))};
      for (int q = 0; q < 4; ++q) wide[r][q] = _mm512_add_epi64(wide[r][q], parts[q]);
    }
  }
  for (int r = 0; r < count; ++r) {
    for (int q = 0; q < 4 && 8 * q < channels; ++q) {
      const int64_t left = channels - 8 * q;
      const __mmask8 mask = left >= 8 ? 0xFF : (__mmask8)((1u << left) - 1);
      _mm_mask_storeu_epi16(out + r * stride + 8 * q, mask, uf_rescale_words(&block->rescale[q], wide[r][q], output));
    }
  }
}

// The same of block `index` of `channels` output channels in all.
static inline void uf_word_tile(const void *packed, int64_t depth, int64_t index, const int16_t *const *rows, int count,
                                const uf_output *output, int64_t channels, int16_t *out) {
  const word_block *block = uf_word_block_at(packed, depth, index);
  const int64_t first = index * WORD_BLOCK, left = channels - first, steps = uf_word_steps(depth);
  out += first;
#define UF_WORD_TILE(n) \
  case n:               \
    return uf_word_tile_of(block, rows, steps, n, output, left, out, channels)
  switch (count) {
    UF_WORD_TILE(1);
    UF_WORD_TILE(2);
    UF_WORD_TILE(3);
    UF_WORD_TILE(4);
    UF_WORD_TILE(5);
    UF_WORD_TILE(6);
  }
#undef UF_WORD_TILE
}

#endif  // UNFLOAT_KERNELS_WORDS_AVX512VNNI_H_
