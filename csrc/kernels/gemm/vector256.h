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
#include "widen256.h"
#endif

enum { TILE_ROWS = 6, LOWERED = 0, LEAST_WEIGHT = INT8_MIN, STEP_INPUT_BYTES = 4 };

static int weight_place(int channel, int k, bool half) {
  return (half ? channel : channel_lane(channel)) * STEP_DEPTH + k;
}

typedef row_type weights_type;

UF_INLINE weights_type load_weights(const void *w) {
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
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const weights_type *weights, bool half) {
  const __m256i inputs = broadcast4(x);
  acc->v0 = UF_DOT(acc->v0, inputs, weights->v0);
  if (!half) acc->v1 = UF_DOT(acc->v1, inputs, weights->v1);
}

#define BEGIN_ROW(row, x) (void)0

#include "blocks.h"
