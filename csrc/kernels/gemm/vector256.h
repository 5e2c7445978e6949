// The matrix product with vectors of 256 bits: AVX-VNNI, and AVX2 (C11). The file that includes it defines UF_GEMM, the
// level's name, and UF_DOT4 where the CPU adds four products of bytes in one instruction.
//
// Without UF_DOT4, pairs of 16-bit products are added in 32 bits (products of bytes would be added in 16, which
// saturate): inputs are widened once for all output channels, weights when they are loaded.

#include "gemm.h"
#include "row256.h"

#ifdef UF_DOT4
enum { STEP_DEPTH = 4 };
#define UF_DOT UF_DOT4
#else
enum { STEP_DEPTH = 2 };
#define UF_DOT add_pairs
#define UF_WIDENS
#endif

enum { TILE_ROWS = 6, LOWERED = 0, LEAST_WEIGHT = INT8_MIN };

// A half block fills the first vector, in order.
static int half_lane_channel(int vector, int lane) { return UF_LANES * vector + lane; }

static int weight_place(int channel, int k, bool half) {
  return (half ? channel : channel_lane(channel)) * STEP_DEPTH + k;
}

UF_INLINE row_type load_weights(const void *w) {
#ifdef UF_DOT4
  const __m256i *vector = w;
  const row_type row = {_mm256_load_si256(vector), _mm256_load_si256(vector + 1)};
#else
  const __m128i *half = w;
  const row_type row = {_mm256_cvtepi8_epi16(_mm_load_si128(half)), _mm256_cvtepi8_epi16(_mm_load_si128(half + 1))};
#endif
  return row;
}

// One step of a row, whose inputs are at x.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const row_type *weights, bool half) {
  const __m256i inputs = broadcast4(x);
  acc->v0 = UF_DOT(acc->v0, inputs, weights->v0);
  if (!half) acc->v1 = UF_DOT(acc->v1, inputs, weights->v1);
}

// The 8 bytes of a row of half a block, not clamped.
UF_INLINE uf_bytes half_row_bytes(const row_type *row, const uf_block16 *block, uf_form form) {
  return uf_half_bytes_of_sums(form, row->v0, block);
}

#ifdef UF_WIDENS
UF_INLINE void widen_run(const uint8_t *x, int64_t depth, int16_t *words) {
  int64_t k = 0;
  for (; depth - k >= 16; k += 16) {
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(x + k)));
    _mm256_storeu_si256((__m256i *)(words + k), wide);
  }
  for (; depth - k >= 8; k += 8) {
    _mm_storeu_si128((__m128i *)(words + k), _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(x + k))));
  }
  for (; depth - k >= 4; k += 4) {
    int32_t four;
    memcpy(&four, x + k, sizeof four);
    _mm_storel_epi64((__m128i *)(words + k), _mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
  }
  for (; k < depth; ++k) words[k] = x[k];
}
#endif

#include "blocks.h"
