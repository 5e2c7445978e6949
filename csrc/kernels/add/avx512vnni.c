// Addition with two dot products for each 16 outputs, where a plane over the two bytes gives its exact outputs (see
// qmath_add.h). Where there is none, the next kernel runs.

#include <immintrin.h>

#include "../broadcast.h"
#include "qmath_add.h"
#include "qmath_avx512.h"
#include "rescaled.h"

// --- At load. ---

static void compute_outputs(const uf_add *add, uint8_t *outputs) {
  uf_rescaled rescaled;
  uf_rescale_inputs(add, &rescaled);
  for (int32_t pair = 0; pair < QMATH_PAIRS; ++pair) {
    outputs[pair] = uf_add_bytes(add, &rescaled, (uint8_t)(pair >> 8), (uint8_t)pair);
  }
}

static bool find_plane(const uf_add *add, qmath_plane *plane) {
  uint8_t outputs[QMATH_PAIRS];
  qmath_addition addition = {
      .clamp_min = add->output.clamp_min, .clamp_max = add->output.clamp_max, .outputs = outputs};
  for (int i = 0; i < 2; ++i) {
    addition.product[i] = (int64_t)add->input_multiplier[i] * add->multiplier;
    addition.fraction_bits[i] = 62 - add->left_shift - add->input_shift[i] - add->shift;
  }
  compute_outputs(add, outputs);
  return qmath_find_plane(&addition, plane);
}

static bool supports(const uf_node *node) {
  qmath_plane plane;
  return find_plane(&node->params.add, &plane);
}

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(qmath_half_plane);
}

static void pack(const uf_node *node, void *packed) {
  qmath_plane plane;
  find_plane(&node->params.add, &plane);
  *(qmath_half_plane *)packed = qmath_halve_plane(&plane);
}

// --- Running. ---

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

const uf_kernel add__avx512vnni = {
    .name = "add__avx512vnni",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
