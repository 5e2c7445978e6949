// Depthwise convolution by pairs of taps (C11, AVX2): the bytes of two taps, interleaved and widened, times the two
// taps' weights, are added by one instruction.

#include "../block16.h"

typedef int16_t weight_type;

enum { LOWERED = 0, LEAST_WEIGHT = INT8_MIN };

static int weight_place(int channel, int tap) { return 2 * channel + tap; }

// Up to 16 channels of a pixel, from `channel` on.
UF_INLINE uf_bytes run_block(const uint8_t *const *taps, int64_t channel, int64_t count, int pairs,
                             const uf_block16 *block) {
  const __m256i *weights = (const __m256i *)(block + 1);
  __m256i low = uf_start(block, 0), high = uf_start(block, 1);
  for (int pair = 0; pair < pairs; ++pair, weights += 2) {
    const __m128i a = uf_load_first(taps[2 * pair] + channel, count);
    const __m128i b = uf_load_first(taps[2 * pair + 1] + channel, count);
    const __m256i first = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
    const __m256i second = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
    low = _mm256_add_epi32(low, _mm256_madd_epi16(first, _mm256_load_si256(weights)));
    high = _mm256_add_epi32(high, _mm256_madd_epi16(second, _mm256_load_si256(weights + 1)));
  }
  return uf_clamped(block->form, uf_in_order(uf_bytes_of_sums(block->form, low, high, block)), block);
}

#include "pairs.h"

const uf_kernel depthwise_conv2d__avx2 = {
    .name = "depthwise_conv2d__avx2",
    .level = UF_AVX2,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
};
