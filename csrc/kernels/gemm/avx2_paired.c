// AVX2: the matrix product with half of the multiplications (C11), by an identity of S. Winograd's (1968),
//
//     x0 w0 + x1 w1 = (x0 + w1) (x1 + w0) - x0 x1 - w0 w1.
//
// Its last two terms are summed once for a row of inputs and once for a channel. Additions take the place of
// multiplications, of which AMD's Zen cores start half as many. Sums of words fit words; sums of products may wrap: the
// accumulator is right modulo 2^32 all the same.

#define UF_GEMM uf_gemm__avx2_paired
#include "gemm.h"
#include "row256.h"
#include "widen256.h"

#define UF_PAIRS

enum { STEP_DEPTH = 4, STEP_INPUT_BYTES = 8, TILE_ROWS = 4, LOWERED = 0, LEAST_WEIGHT = INT8_MIN };

// In each lane two of a channel's weights, and the two that they are paired with.
typedef struct {
  __m256i first0, second0, first1, second1;  // of both vectors of a row
} weights_type;

static int weight_place(int channel, int k, bool half) {
  const int lane = half ? channel : channel_lane(channel);
  return lane / UF_LANES * 32 + k / 2 * 16 + lane % UF_LANES * 2 + k % 2;
}

UF_INLINE weights_type load_weights(const void *w) {
  const __m128i *bytes = w;
  const weights_type weights = {
      _mm256_cvtepi8_epi16(_mm_load_si128(bytes)), _mm256_cvtepi8_epi16(_mm_load_si128(bytes + 1)),
      _mm256_cvtepi8_epi16(_mm_load_si128(bytes + 2)), _mm256_cvtepi8_epi16(_mm_load_si128(bytes + 3))};
  return weights;
}

// One step of a row, whose four words are at x. Assembly, in the order that keeps Zen 3's units busiest; gcc 12 would
// copy accumulators.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const weights_type *weights, bool half) {
  typedef int32_t __attribute__((may_alias)) two_words;
  const two_words *first = (const two_words *)(const void *)x, *second = first + 1;
  __m256i a, b, c, d;
  if (half) {
    __asm__(
        "vpbroadcastd %[first], %[a]\n\t"
        "vpbroadcastd %[second], %[b]\n\t"
        "vpaddw %[second0], %[a], %[a]\n\t"
        "vpaddw %[first0], %[b], %[b]\n\t"
        "vpmaddwd %[a], %[b], %[a]\n\t"
        "vpaddd %[a], %[v0], %[v0]"
        : [v0] "+x"(acc->v0), [a] "=&x"(a), [b] "=&x"(b)
        : [first] "m"(*first), [second] "m"(*second), [first0] "x"(weights->first0), [second0] "x"(weights->second0));
    return;
  }
  __asm__(
      "vpbroadcastd %[first], %[a]\n\t"
      "vpbroadcastd %[second], %[b]\n\t"
      "vpaddw %[second0], %[a], %[c]\n\t"
      "vpaddw %[first0], %[b], %[d]\n\t"
      "vpaddw %[second1], %[a], %[a]\n\t"
      "vpaddw %[first1], %[b], %[b]\n\t"
      "vpmaddwd %[c], %[d], %[c]\n\t"
      "vpmaddwd %[a], %[b], %[a]\n\t"
      "vpaddd %[c], %[v0], %[v0]\n\t"
      "vpaddd %[a], %[v1], %[v1]"
      : [v0] "+x"(acc->v0), [v1] "+x"(acc->v1), [a] "=&x"(a), [b] "=&x"(b), [c] "=&x"(c), [d] "=&x"(d)
      : [first] "m"(*first), [second] "m"(*second), [first0] "x"(weights->first0), [second0] "x"(weights->second0),
        [first1] "x"(weights->first1), [second1] "x"(weights->second1));
}

#undef NEXT_ROW  // inputs are loaded where they are used anyway
#define NEXT_ROW(at, acc, half) (void)0

// --- The terms of inputs and of weights alone. ---

enum { WORDS_AT_ONCE = 16 };

// Writes the sum of a row's products of words before it. What lies behind the row is not part of it.
UF_INLINE void write_term(int16_t *words, int64_t count) {
  __m256i sum = _mm256_setzero_si256();
  int64_t k = 0;
  for (; count - k >= WORDS_AT_ONCE; k += WORDS_AT_ONCE) {
    const __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(words + k));
    sum = add_pairs(sum, x, _mm256_srli_epi64(x, 32));
  }
  __m128i both = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
  both = _mm_add_epi32(both, _mm_srli_si128(both, 8));
  int32_t term = _mm_cvtsi128_si32(both);
  for (; k < count; k += STEP_DEPTH) term += words[k] * words[k + 2] + words[k + 1] * words[k + 3];
  memcpy(words - 2, &term, sizeof term);
}

#define BEGIN_ROW(row, x)                                   \
  do {                                                      \
    const __m256i term = broadcast4((x) - sizeof(int32_t)); \
    (row)->v0 = _mm256_sub_epi32((row)->v0, term);          \
    (row)->v1 = _mm256_sub_epi32((row)->v1, term);          \
  } while (0)

// Takes the sums of the weights' products from where the block's accumulators start.
static void subtract_terms(int64_t steps, uf_block16 *block) {
  const uint8_t *w = (const uint8_t *)(block + 1);
  row_type start = start_row(block);
  for (int64_t step = 0; step < steps; ++step, w += UF_BLOCK_CHANNELS * STEP_DEPTH) {
    const weights_type weights = load_weights(w);
    start.v0 = _mm256_sub_epi32(start.v0, _mm256_madd_epi16(weights.first0, weights.second0));
    start.v1 = _mm256_sub_epi32(start.v1, _mm256_madd_epi16(weights.first1, weights.second1));
  }
  _mm256_store_si256((__m256i *)(void *)block->start[0], start.v0);
  _mm256_store_si256((__m256i *)(void *)block->start[1], start.v1);
}

// A row's term takes about as long as its products with eight channels, and rows begin and end more often than in tiles
// of six. Words behind a run would have to be small.
static bool pays(const uf_gemm_shape *shape) {
  return shape->depth % STEP_DEPTH == 0 && shape->taps * shape->depth >= 128 && shape->channels >= 96;
}

#include "blocks.h"
