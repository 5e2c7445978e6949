// Addition with two dot products for each 8 outputs (C11, AVX2; see plane.h).

#define UF_VARIANT avx2
#define UF_VARIANT_LEVEL UF_AVX2

#include <immintrin.h>

#include "plane.h"

// A plane's halves in registers.
typedef struct {
  __m256i low_factors, high_factors, low_constant, high_constant;
  __m128i shift;
} half_plane8;

static inline half_plane8 load_plane(const qmath_half_plane *plane) {
  const half_plane8 registers = {_mm256_set1_epi32(plane->low_factors), _mm256_set1_epi32(plane->high_factors),
                                 _mm256_set1_epi32(plane->low_constant), _mm256_set1_epi32(plane->high_constant),
                                 _mm_cvtsi32_si128(plane->shift)};
  return registers;
}

// The heights, not clamped, over 8 pairs of 16-bit numbers. The low sum never exceeds 2^25, the high one 2^31.
static inline __m256i heights(__m256i pairs, const half_plane8 *plane) {
  const __m256i low = _mm256_add_epi32(plane->low_constant, _mm256_madd_epi16(pairs, plane->low_factors));
  const __m256i carried = _mm256_add_epi32(_mm256_srai_epi32(low, 16), plane->high_constant);
  return _mm256_sra_epi32(_mm256_add_epi32(carried, _mm256_madd_epi16(pairs, plane->high_factors)), plane->shift);
}

// 32 outputs, not clamped. What the unpacking takes apart within each half, the packing puts together again.
static inline __m256i add32(__m256i a, __m256i b, const half_plane8 *plane) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
  const __m256i first = heights(_mm256_unpacklo_epi8(low, zero), plane);
  const __m256i second = heights(_mm256_unpackhi_epi8(low, zero), plane);
  const __m256i third = heights(_mm256_unpacklo_epi8(high, zero), plane);
  const __m256i last = heights(_mm256_unpackhi_epi8(high, zero), plane);
  return _mm256_packus_epi16(_mm256_packs_epi32(first, second), _mm256_packs_epi32(third, last));
}

typedef struct {
  half_plane8 plane;
  __m256i least, most;
} sums_type;

enum { WIDTH = 32 };

static inline sums_type load_sums(const uf_node *node) {
  const uf_output *output = &node->params.add.output;
  const sums_type with = {load_plane(node->packed), _mm256_set1_epi8((char)output->clamp_min),
                          _mm256_set1_epi8((char)output->clamp_max)};
  return with;
}

static inline void add_bytes(const sums_type *with, const uint8_t *a, const uint8_t *b, uint8_t *out) {
  const __m256i x = _mm256_loadu_si256((const __m256i *)a), y = _mm256_loadu_si256((const __m256i *)b);
  const __m256i bytes = _mm256_max_epu8(_mm256_min_epu8(add32(x, y, &with->plane), with->most), with->least);
  _mm256_storeu_si256((__m256i *)out, bytes);
}

#include "spans.h"

UF_DEFINE_KERNEL(UF_FAMILY, .supports = supports, .packed_size = packed_size, .pack = pack, .run = run, .span = span);
