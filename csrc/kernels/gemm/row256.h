// A row of 16 sums in two vectors of 256 bits: what the matrix products of AVX2 and AVX-VNNI share (C11).

#ifndef UNFLOAT_KERNELS_GEMM_ROW256_H_
#define UNFLOAT_KERNELS_GEMM_ROW256_H_

#include "../block16.h"

// Packing two vectors of 32-bit numbers to bytes brings their 128-bit halves together. So the first vector holds the
// channels 0 to 3 and 8 to 11, the second the others.
static int lane_channel(int vector, int lane) { return 4 * vector + lane % 4 + lane / 4 * 8; }

// A half block fills the first vector, in order.
static inline int half_lane_channel(int vector, int lane) { return UF_LANES * vector + lane; }

// The lane of a channel, counted through both vectors.
static inline int channel_lane(int channel) { return UF_LANES * (channel / 4 % 2) + channel % 4 + channel / 8 * 4; }

typedef struct {
  __m256i v0, v1;
} row_type;

UF_INLINE row_type start_row(const uf_block16 *block) {
  const row_type row = {uf_start(block, 0), uf_start(block, 1)};
  return row;
}

// Four bytes of inputs in every lane.
UF_INLINE __m256i broadcast4(const uint8_t *x) {
  int32_t four;
  memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

// Adds the products of two words in every lane.
UF_INLINE __m256i add_pairs(__m256i acc, __m256i x, __m256i weights) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(x, weights));
}

// Where to read is not known before the accumulator is: gcc would load the inputs of all rows first, and spill
// accumulators for them.
#define NEXT_ROW(at, row, half)                          \
  do {                                                   \
    __asm__("" : "+r"(at), "+x"((row).v0));              \
    if (!(half)) __asm__("" : "+r"(at), "+x"((row).v1)); \
  } while (0)

// The 16 bytes of a row, in the channels' order, not clamped.
UF_INLINE uf_bytes row_bytes(const row_type *row, const uf_block16 *block, uf_form form) {
  return uf_bytes_of_sums(form, row->v0, row->v1, block);
}

// The 8 bytes of a row of half a block, not clamped.
UF_INLINE uf_bytes half_row_bytes(const row_type *row, const uf_block16 *block, uf_form form) {
  return uf_half_bytes_of_sums(form, row->v0, block);
}

#endif  // UNFLOAT_KERNELS_GEMM_ROW256_H_
