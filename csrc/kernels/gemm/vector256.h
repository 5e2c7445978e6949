// The matrix product with vectors of 256 bits: AVX-VNNI, and AVX2 (C11). The file that includes it defines UF_GEMM, the
// level's name, and UF_DOT4 where the CPU adds four products of bytes in one instruction.
//
// With UF_DOT4 a row of a tile is two vectors of accumulators and weights are bytes. Without, 16-bit products are added
// in pairs (bytes would be added in 16 bits, which saturate), so weights are 16-bit numbers and a row is four vectors
// of halves of sums, brought together at its end.

#include "../block16.h"
#include "gemm.h"

#ifdef UF_DOT4
typedef int8_t weight_type;
enum { TILE_ROWS = 6, ROW_VECTORS = 2 };
#else
typedef int16_t weight_type;
enum { TILE_ROWS = 3, ROW_VECTORS = 4 };
#endif

enum { LOWERED = 0, LEAST_WEIGHT = INT8_MIN };

// Packing two vectors of 32-bit numbers to bytes brings their 128-bit halves together. So the first vector holds the
// channels 0 to 3 and 8 to 11, the second the others.
static int lane_channel(int vector, int lane) { return 4 * vector + lane % 4 + lane / 4 * 8; }

static int weight_place(int channel, int k) {
#ifdef UF_DOT4
  const int vector = channel / 4 % 2, lane = channel % 4 + channel / 8 * 4;
  return (8 * vector + lane) * 4 + k;
#else  // a sum of halves takes pairs of lanes from two vectors in turn
  const int vector = channel / 4 % 2 * 2 + channel % 4 / 2, lane = channel % 2 + channel / 8 * 2;
  return (4 * vector + lane) * 4 + k;
#endif
}

typedef struct {
  __m256i v0, v1, v2, v3;
} row_type;

UF_INLINE row_type no_row(void) {
  const __m256i zero = _mm256_setzero_si256();
  const row_type row = {zero, zero, zero, zero};
  return row;
}

UF_INLINE row_type load_weights(const void *w) {
  const __m256i *vector = w, zero = _mm256_setzero_si256();
  const row_type row = {_mm256_load_si256(vector), _mm256_load_si256(vector + 1),
                        ROW_VECTORS > 2 ? _mm256_load_si256(vector + 2) : zero,
                        ROW_VECTORS > 2 ? _mm256_load_si256(vector + 3) : zero};
  return row;
}

UF_INLINE __m256i four_bytes(const uint8_t *x) {
  int32_t four;
  memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

// One step of a row, whose run is at x.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const row_type *weights) {
#ifdef UF_DOT4
  const __m256i a = four_bytes(x);
  acc->v0 = UF_DOT4(acc->v0, a, weights->v0);
  acc->v1 = UF_DOT4(acc->v1, a, weights->v1);
#else
  const __m256i a = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(four_bytes(x)));
  acc->v0 = _mm256_add_epi32(acc->v0, _mm256_madd_epi16(a, weights->v0));
  acc->v1 = _mm256_add_epi32(acc->v1, _mm256_madd_epi16(a, weights->v1));
  acc->v2 = _mm256_add_epi32(acc->v2, _mm256_madd_epi16(a, weights->v2));
  acc->v3 = _mm256_add_epi32(acc->v3, _mm256_madd_epi16(a, weights->v3));
#endif
}

// The 16 bytes of a row, in the channels' order, not clamped.
UF_INLINE uf_bytes row_bytes(const row_type *row, const uf_block16 *block) {
#ifdef UF_DOT4
  const __m256i first = row->v0, second = row->v1;
#else
  const __m256i first = _mm256_hadd_epi32(row->v0, row->v1), second = _mm256_hadd_epi32(row->v2, row->v3);
#endif
  const __m256i words = _mm256_packs_epi32(uf_rescaled(first, block, 0), uf_rescaled(second, block, 1));
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

#include "blocks.h"
