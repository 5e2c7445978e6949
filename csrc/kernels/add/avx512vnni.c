// Addition with two dot products for each 16 outputs (C11, AVX-512 VNNI; see plane.h).

#define UF_VARIANT avx512vnni
#define UF_VARIANT_LEVEL UF_AVX512VNNI

#include <immintrin.h>

#include "plane.h"
#include "qmath_avx512.h"

// 64 outputs, not clamped. What the unpacking takes apart within each quarter, the packing puts together again.
static inline __m512i add64(__m512i a, __m512i b, const qmath_half_plane16 *plane) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
  const __m512i first = qmath_add_on_plane16(_mm512_unpacklo_epi8(low, zero), plane);
  const __m512i second = qmath_add_on_plane16(_mm512_unpackhi_epi8(low, zero), plane);
  const __m512i third = qmath_add_on_plane16(_mm512_unpacklo_epi8(high, zero), plane);
  const __m512i last = qmath_add_on_plane16(_mm512_unpackhi_epi8(high, zero), plane);
  return _mm512_packus_epi16(_mm512_packs_epi32(first, second), _mm512_packs_epi32(third, last));
}

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const uf_output *output = &node->params.add.output;
  const qmath_half_plane16 plane = qmath_half_plane16_set(node->packed);
  const __m512i least = _mm512_set1_epi8((char)output->clamp_min), most = _mm512_set1_epi8((char)output->clamp_max);
  for (int64_t i = 0; i < count; i += 64) {
    const __mmask64 inside = count - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (count - i)) - 1;
    const __m512i sums = add64(_mm512_maskz_loadu_epi8(inside, a + i), _mm512_maskz_loadu_epi8(inside, b + i), &plane);
    _mm512_mask_storeu_epi8(out + i, inside, _mm512_max_epu8(_mm512_min_epu8(sums, most), least));
  }
}

static void run(const uf_node *node, int thread, int threads) { uf_broadcast_run(node, thread, threads, span); }

UF_DEFINE_KERNEL(UF_FAMILY, .supports = supports, .packed_size = packed_size, .pack = pack, .run = run, .span = span);
