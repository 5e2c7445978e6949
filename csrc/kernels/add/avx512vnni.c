// Addition with two dot products for each 16 outputs: clamp((a * factor_a + b * factor_b + constant) >> shift).
//
// An addition's output depends on two bytes, and is very nearly a plane over them: its roundings disturb the plane by
// some millionths of a step. So at load a plane is sought that gives the exact output for each of the 65536 pairs. It
// nearly always exists; where it does not (ties rounded away from zero on both sides of it), the next kernel runs.
//
// Factors are of 32 bits. Their halves multiply the bytes by vpdpwssd, and both sums meet after the lower one's shift.

#include <immintrin.h>
#include <string.h>

#include "../broadcast.h"
#include "rescaled.h"

enum { HALF_BITS = 16, MAX_SHIFT = 38, PAIRS = 256 * 256 };

typedef struct {
  int64_t factor[2], constant;
  int shift;
} plane;

// ---- Finding the plane
// -----------------------------------------------------------------------------------------------

// Where the plane's constant must lie.
typedef struct {
  int64_t least, most;
} constant_range;

// `outputs` are the bytes of all pairs. A byte at one of the clamp's bounds binds the plane from one side only.
static constant_range find_range(const uf_add *add, const uint8_t *outputs, const plane *p) {
  constant_range range = {INT64_MIN, INT64_MAX};
  for (int32_t pair = 0; pair < PAIRS; ++pair) {
    const int64_t byte = outputs[pair], height = (pair >> 8) * p->factor[0] + (pair & 255) * p->factor[1];
    const int64_t least = (byte << p->shift) - height, most = least + ((int64_t)1 << p->shift) - 1;
    if (byte > add->output.clamp_min && least > range.least) range.least = least;
    if (byte < add->output.clamp_max && most < range.most) range.most = most;
  }
  return range;
}

// The product of both multipliers, which every pair's output follows; its last bit stands for 2^-shift.
static bool set_factors(const uf_add *add, plane *p) {
  for (int i = 0; i < 2; ++i) {
    const int right = 62 - add->left_shift - add->input_shift[i] - add->shift - p->shift;
    if (right < 1 || right > 62) return false;
    const int64_t product = (int64_t)add->input_multiplier[i] * add->multiplier;
    p->factor[i] = (product + ((int64_t)1 << (right - 1))) >> right;
    if (p->factor[i] > INT32_MAX - (1 << HALF_BITS)) return false;
  }
  return true;
}

static void compute_outputs(const uf_add *add, uint8_t *outputs) {
  uf_rescaled rescaled;
  uf_rescale_inputs(add, &rescaled);
  for (int32_t pair = 0; pair < PAIRS; ++pair) {
    outputs[pair] = uf_add_bytes(add, &rescaled, (uint8_t)(pair >> 8), (uint8_t)pair);
  }
}

// The plane of the greatest factors that fit, if it meets the output of every pair.
static bool find_plane(const uf_add *add, plane *p) {
  uint8_t outputs[PAIRS];
  if (add->output.clamp_min == add->output.clamp_max) return false;
  p->shift = MAX_SHIFT;
  while (!set_factors(add, p)) {
    if (--p->shift <= HALF_BITS) return false;
  }
  compute_outputs(add, outputs);
  const constant_range range = find_range(add, outputs, p);
  p->constant = range.least == INT64_MIN ? range.most : range.least;
  return range.least <= range.most;
}

// ---- At load
// ---------------------------------------------------------------------------------------------------------

typedef struct {
  int32_t low_halves, high_halves;      // of both factors: two 16-bit numbers, a's in the lower one
  int32_t low_constant, high_constant;  // low_constant is of HALF_BITS bits, not signed
  int32_t shift;                        // of the high sum
  uint8_t clamp_min, clamp_max;
} packed_plane;

static bool supports(const uf_node *node) {
  plane p;
  return find_plane(&node->params.add, &p);
}

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(packed_plane);
}

// x = high * 2^16 + low, both signed.
static int32_t low_half(int64_t x) { return (int16_t)x; }
static int32_t high_half(int64_t x) { return (int32_t)((x - low_half(x)) >> HALF_BITS); }
static int32_t join(int32_t a, int32_t b) { return (int32_t)(((uint32_t)a & 0xffff) | (uint32_t)b << HALF_BITS); }

static void pack(const uf_node *node, void *packed) {
  const uf_add *add = &node->params.add;
  plane p;
  find_plane(add, &p);
  const packed_plane result = {
      .low_halves = join(low_half(p.factor[0]), low_half(p.factor[1])),
      .high_halves = join(high_half(p.factor[0]), high_half(p.factor[1])),
      .low_constant = (int32_t)(p.constant & 0xffff),
      .high_constant = (int32_t)(p.constant >> HALF_BITS),
      .shift = p.shift - HALF_BITS,
      .clamp_min = (uint8_t)add->output.clamp_min,
      .clamp_max = (uint8_t)add->output.clamp_max,
  };
  memcpy(packed, &result, sizeof result);
}

// ---- Running
// ---------------------------------------------------------------------------------------------------------

typedef struct {
  __m512i low_halves, high_halves, low_constant, high_constant;
  __m128i shift;
} registers;

// 16 outputs, not clamped, from 16 pairs of 16-bit numbers. The low sum never exceeds 2^25, the high one 2^31.
static inline __m512i add16(__m512i pairs, const registers *r) {
  const __m512i low = _mm512_dpwssd_epi32(r->low_constant, pairs, r->low_halves);
  const __m512i high = _mm512_add_epi32(_mm512_srai_epi32(low, HALF_BITS), r->high_constant);
  return _mm512_sra_epi32(_mm512_dpwssd_epi32(high, pairs, r->high_halves), r->shift);
}

// 64 outputs, not clamped. What the unpacking takes apart within each quarter, the packing puts together again.
static inline __m512i add64(__m512i a, __m512i b, const registers *r) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
  const __m512i first = add16(_mm512_unpacklo_epi8(low, zero), r), second = add16(_mm512_unpackhi_epi8(low, zero), r);
  const __m512i third = add16(_mm512_unpacklo_epi8(high, zero), r), last = add16(_mm512_unpackhi_epi8(high, zero), r);
  return _mm512_packus_epi16(_mm512_packs_epi32(first, second), _mm512_packs_epi32(third, last));
}

static void span(const uf_node *node, const uint8_t *a, const uint8_t *b, uint8_t *out, int64_t count) {
  const packed_plane *p = node->packed;
  const registers r = {_mm512_set1_epi32(p->low_halves), _mm512_set1_epi32(p->high_halves),
                       _mm512_set1_epi32(p->low_constant), _mm512_set1_epi32(p->high_constant),
                       _mm_cvtsi32_si128(p->shift)};
  const __m512i least = _mm512_set1_epi8((char)p->clamp_min), most = _mm512_set1_epi8((char)p->clamp_max);
  for (int64_t i = 0; i < count; i += 64) {
    const __mmask64 inside = count - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (count - i)) - 1;
    const __m512i sums = add64(_mm512_maskz_loadu_epi8(inside, a + i), _mm512_maskz_loadu_epi8(inside, b + i), &r);
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
