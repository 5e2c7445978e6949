// AVX-512 VNNI, AVX-VNNI and AMX for CPUs that have AVX2 alone: the intrinsics that the kernels use, lane by lane, so
// that tests can run every level of x86 anywhere. A build with UNFLOAT_EMULATED=ON finds this file in the compiler's
// place; the kernels' sources are the same but for what they write as assembly, whose place functions of this file
// take.
//
// Meanings are those of Intel's manual. Aligned loads and stores check the alignment, masked ones touch no byte more.

#ifndef UNFLOAT_TESTS_EMULATED_IMMINTRIN_H_
#define UNFLOAT_TESTS_EMULATED_IMMINTRIN_H_

#include_next <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "cpu.h"

#define EMULATE static __attribute__((noinline, unused))  // in line, a kernel would take minutes to compile

#define EMULATED_LANES(name, type, count) \
  typedef struct {                        \
    type lane[count];                     \
  } name

EMULATED_LANES(emulated_i8, int8_t, 64);
EMULATED_LANES(emulated_u8, uint8_t, 64);
EMULATED_LANES(emulated_i16, int16_t, 32);
EMULATED_LANES(emulated_u16, uint16_t, 32);
EMULATED_LANES(emulated_i32, int32_t, 16);
EMULATED_LANES(emulated_u32, uint32_t, 16);
EMULATED_LANES(emulated_i64, int64_t, 8);
EMULATED_LANES(emulated_u64, uint64_t, 8);
EMULATED_LANES(emulated_quarters, __m128i, 4);
EMULATED_LANES(emulated_halves, __m256i, 2);

// The same 64 bytes as another type.
#define EMULATED_AS(to, from)                                 \
  __extension__({                                             \
    const __typeof__(from) emulated_from = (from);            \
    __typeof__(to) emulated_to;                               \
    memcpy(&emulated_to, &emulated_from, sizeof emulated_to); \
    emulated_to;                                              \
  })
#define EMULATED_VECTOR(from) EMULATED_AS(__m512i, from)

// A function whose lanes are `expression` of those of a, and of b.
#define EMULATED_BINARY(name, type, count, expression)               \
  EMULATE __m512i name(__m512i va, __m512i vb) {                     \
    const type a = EMULATED_AS(type, va), b = EMULATED_AS(type, vb); \
    type r;                                                          \
    for (int i = 0; i < count; ++i) r.lane[i] = (expression);        \
    return EMULATED_VECTOR(r);                                       \
  }
#define EMULATED_EACH(name, type, count, arguments, expression) \
  EMULATE __m512i name arguments {                              \
    type r;                                                     \
    for (int i = 0; i < count; ++i) r.lane[i] = (expression);   \
    return EMULATED_VECTOR(r);                                  \
  }

EMULATE void emulated_check(const void *p) {
  if ((uintptr_t)p % 64 != 0) __builtin_trap();
}

// --- Memory. ---

EMULATE __m512i emulated_loadu(const void *p) {
  __m512i r;
  memcpy(&r, p, sizeof r);
  return r;
}

EMULATE __m512i emulated_load(const void *p) {
  emulated_check(p);
  return emulated_loadu(p);
}

EMULATE void emulated_storeu(void *p, __m512i v) { memcpy(p, &v, sizeof v); }

EMULATE void emulated_store(void *p, __m512i v) {
  emulated_check(p);
  emulated_storeu(p, v);
}

EMULATE void emulated_mask_store(void *p, uint64_t mask, const void *bytes, int count, size_t width) {
  for (int i = 0; i < count; ++i) {
    if (mask >> i & 1) memcpy((char *)p + (size_t)i * width, (const char *)bytes + (size_t)i * width, width);
  }
}

EMULATE void emulated_mask_storeu8(void *p, __mmask64 mask, __m512i v) { emulated_mask_store(p, mask, &v, 64, 1); }
EMULATE void emulated_mask_storeu8_256(void *p, __mmask32 mask, __m256i v) { emulated_mask_store(p, mask, &v, 32, 1); }
EMULATE void emulated_mask_storeu8_128(void *p, __mmask16 mask, __m128i v) { emulated_mask_store(p, mask, &v, 16, 1); }
EMULATE void emulated_mask_storeu16_128(void *p, __mmask8 mask, __m128i v) { emulated_mask_store(p, mask, &v, 8, 2); }

EMULATE __m512i emulated_maskz_loadu8(__mmask64 mask, const void *p) {
  emulated_u8 r;
  for (int i = 0; i < 64; ++i) r.lane[i] = mask >> i & 1 ? ((const uint8_t *)p)[i] : 0;
  return EMULATED_VECTOR(r);
}

EMULATE __m512i emulated_gather64(__m512i index, const void *base, int scale) {
  const emulated_i64 at = EMULATED_AS(emulated_i64, index);
  emulated_i64 r;
  for (int i = 0; i < 8; ++i) memcpy(&r.lane[i], (const char *)base + at.lane[i] * scale, 8);
  return EMULATED_VECTOR(r);
}

// --- Constants. ---

EMULATED_EACH(emulated_set8, emulated_i8, 64, (char x), (int8_t)x)
EMULATED_EACH(emulated_set32, emulated_i32, 16, (int x), x)
EMULATED_EACH(emulated_set64, emulated_i64, 8, (long long x), x)
#define emulated_zero() emulated_set64(0)
#define emulated_setr32(...) EMULATED_VECTOR(((emulated_i32){{__VA_ARGS__}}))
#define emulated_setr64(...) EMULATED_VECTOR(((emulated_i64){{__VA_ARGS__}}))

// --- Lane by lane. ---

EMULATED_BINARY(emulated_add32, emulated_u32, 16, a.lane[i] + b.lane[i])
EMULATED_BINARY(emulated_add64, emulated_u64, 8, a.lane[i] + b.lane[i])
EMULATED_BINARY(emulated_sub8, emulated_u8, 64, (uint8_t)(a.lane[i] - b.lane[i]))
EMULATED_BINARY(emulated_sub64, emulated_u64, 8, a.lane[i] - b.lane[i])
EMULATED_BINARY(emulated_xor, emulated_u64, 8, a.lane[i] ^ b.lane[i])
EMULATED_BINARY(emulated_max_i32, emulated_i32, 16, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_min_i32, emulated_i32, 16, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_max_i64, emulated_i64, 8, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_min_i64, emulated_i64, 8, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_max_u8, emulated_u8, 64, a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_min_u8, emulated_u8, 64, a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i])
EMULATED_BINARY(emulated_mullo32, emulated_u32, 16, a.lane[i] * b.lane[i])
EMULATED_BINARY(emulated_mullo64, emulated_u64, 8, a.lane[i] * b.lane[i])
EMULATED_BINARY(emulated_sub32, emulated_u32, 16, a.lane[i] - b.lane[i])
EMULATED_BINARY(emulated_mul32, emulated_i64, 8, (int64_t)(int32_t)a.lane[i] * (int32_t)b.lane[i])
EMULATED_BINARY(emulated_mulu32, emulated_u64, 8, (uint64_t)(uint32_t)a.lane[i] * (uint32_t)b.lane[i])
EMULATED_BINARY(emulated_sllv32, emulated_u32, 16, b.lane[i] > 31 ? 0 : a.lane[i] << b.lane[i])
EMULATED_BINARY(emulated_srlv64, emulated_u64, 8, b.lane[i] > 63 ? 0 : a.lane[i] >> b.lane[i])
EMULATED_BINARY(emulated_srav64, emulated_i64, 8, a.lane[i] >> ((uint64_t)b.lane[i] > 63 ? 63 : b.lane[i]))

EMULATED_EACH(emulated_slli32, emulated_u32, 16, (__m512i a, unsigned n),
              n > 31 ? 0 : EMULATED_AS(emulated_u32, a).lane[i] << n)
EMULATED_EACH(emulated_srai32, emulated_i32, 16, (__m512i a, uint64_t n),
              EMULATED_AS(emulated_i32, a).lane[i] >> (n > 31 ? 31 : n))
EMULATED_EACH(emulated_srli64, emulated_u64, 8, (__m512i a, unsigned n),
              n > 63 ? 0 : EMULATED_AS(emulated_u64, a).lane[i] >> n)
#define emulated_sra32(a, n) emulated_srai32(a, (uint64_t)_mm_cvtsi128_si64(n))

EMULATE __mmask8 emulated_less_i64(__m512i va, __m512i vb) {
  const emulated_i64 a = EMULATED_AS(emulated_i64, va), b = EMULATED_AS(emulated_i64, vb);
  unsigned mask = 0;
  for (int i = 0; i < 8; ++i) mask |= (unsigned)(a.lane[i] < b.lane[i]) << i;
  return (__mmask8)mask;
}

EMULATE __mmask16 emulated_less_u32(__m512i va, __m512i vb) {
  const emulated_u32 a = EMULATED_AS(emulated_u32, va), b = EMULATED_AS(emulated_u32, vb);
  unsigned mask = 0;
  for (int i = 0; i < 16; ++i) mask |= (unsigned)(a.lane[i] < b.lane[i]) << i;
  return (__mmask16)mask;
}

// b where the mask has a bit, else a.
EMULATED_EACH(emulated_blend32, emulated_i32, 16, (__mmask16 mask, __m512i a, __m512i b),
              EMULATED_AS(emulated_i32, mask >> i & 1 ? b : a).lane[i])
EMULATED_EACH(emulated_blend64, emulated_i64, 8, (__mmask8 mask, __m512i a, __m512i b),
              EMULATED_AS(emulated_i64, mask >> i & 1 ? b : a).lane[i])
#define emulated_mask_add32(from, mask, a, b) emulated_blend32(mask, from, emulated_add32(a, b))
#define emulated_mask_sub64(from, mask, a, b) emulated_blend64(mask, from, emulated_sub64(a, b))
#define emulated_maskz_mov32(mask, a) emulated_blend32(mask, emulated_zero(), a)

// --- Across lanes. ---

EMULATE __m128i emulated_quarter(__m512i v, int which) { return EMULATED_AS(emulated_quarters, v).lane[which]; }
EMULATE __m256i emulated_half(__m512i v, int which) { return EMULATED_AS(emulated_halves, v).lane[which]; }

EMULATE __m512i emulated_join(__m256i low, __m256i high) {
  const emulated_halves both = {{low, high}};
  return EMULATED_VECTOR(both);
}

EMULATED_EACH(emulated_broadcast_quarter, emulated_quarters, 4, (__m128i x), x)
#define emulated_insert_half(v, x, which) \
  ((which) ? emulated_join(emulated_half(v, 0), x) : emulated_join(x, emulated_half(v, 1)))
#define emulated_from_half(x) emulated_join(x, _mm256_set1_epi8((char)0xa5))  // the manual: undefined

// What AVX2 does in each of two quarters, in four.
#define EMULATED_BY_HALVES(name, narrow)                                    \
  EMULATE __m512i name(__m512i a, __m512i b) {                              \
    return emulated_join(narrow(emulated_half(a, 0), emulated_half(b, 0)),  \
                         narrow(emulated_half(a, 1), emulated_half(b, 1))); \
  }
EMULATED_BY_HALVES(emulated_packs32, _mm256_packs_epi32)
EMULATED_BY_HALVES(emulated_packus16, _mm256_packus_epi16)
EMULATED_BY_HALVES(emulated_unpacklo8, _mm256_unpacklo_epi8)
EMULATED_BY_HALVES(emulated_unpackhi8, _mm256_unpackhi_epi8)
EMULATED_BY_HALVES(emulated_unpacklo16, _mm256_unpacklo_epi16)
EMULATED_BY_HALVES(emulated_unpackhi16, _mm256_unpackhi_epi16)
EMULATED_BY_HALVES(emulated_shuffle8, _mm256_shuffle_epi8)

EMULATE __m512i emulated_permute32(__m512i index, __m512i v) {
  const emulated_u32 at = EMULATED_AS(emulated_u32, index), from = EMULATED_AS(emulated_u32, v);
  emulated_u32 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = from.lane[at.lane[i] & 15];
  return EMULATED_VECTOR(r);
}

EMULATE __m512i emulated_permute64(__m512i index, __m512i v) {
  const emulated_u64 at = EMULATED_AS(emulated_u64, index), from = EMULATED_AS(emulated_u64, v);
  emulated_u64 r;
  for (int i = 0; i < 8; ++i) r.lane[i] = from.lane[at.lane[i] & 7];
  return EMULATED_VECTOR(r);
}

EMULATE __m512i emulated_permute32_of2(__m512i va, __m512i index, __m512i vb) {
  const emulated_u32 a = EMULATED_AS(emulated_u32, va), b = EMULATED_AS(emulated_u32, vb);
  const emulated_u32 at = EMULATED_AS(emulated_u32, index);
  emulated_u32 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = (at.lane[i] & 16 ? b : a).lane[at.lane[i] & 15];
  return EMULATED_VECTOR(r);
}

EMULATE __m512i emulated_vpermt2b(__m512i va, __m512i index, __m512i vb) {
  if (!emulated_has_ifma()) __builtin_trap();
  const emulated_u8 a = EMULATED_AS(emulated_u8, va), b = EMULATED_AS(emulated_u8, vb);
  const emulated_u8 at = EMULATED_AS(emulated_u8, index);
  emulated_u8 r;
  for (int i = 0; i < 64; ++i) r.lane[i] = (at.lane[i] & 64 ? b : a).lane[at.lane[i] & 63];
  return EMULATED_VECTOR(r);
}

// Even lanes twice, where the mask has a bit; real numbers in name only.
EMULATE __m512i emulated_mask_moveldup(__m512i from, __mmask16 mask, __m512i v) {
  const emulated_i32 a = EMULATED_AS(emulated_i32, v);
  emulated_i32 r;
  for (int i = 0; i < 16; ++i) r.lane[i] = a.lane[i & ~1];
  return emulated_blend32(mask, from, EMULATED_VECTOR(r));
}

EMULATE __m512i emulated_widen32(__m256i v) {
  return emulated_join(_mm256_cvtepi32_epi64(_mm256_castsi256_si128(v)),
                       _mm256_cvtepi32_epi64(_mm256_extracti128_si256(v, 1)));
}

EMULATE __m128i emulated_narrow64(__m512i v) {
  const emulated_i64 a = EMULATED_AS(emulated_i64, v);
  int16_t r[8];
  for (int i = 0; i < 8; ++i) r[i] = (int16_t)a.lane[i];
  return _mm_loadu_si128((const __m128i *)(const void *)r);
}

// --- Products. ---

EMULATE int32_t emulated_dot4(uint32_t x, uint32_t w) {
  int32_t sum = 0;
  for (int i = 0; i < 32; i += 8) sum += (int32_t)(x >> i & 255) * (int8_t)(w >> i & 255);
  return sum;
}

EMULATE uint32_t emulated_dot2(uint32_t x, uint32_t w) {  // -32768 four times wraps
  return (uint32_t)((int16_t)x * (int16_t)w) + (uint32_t)((int16_t)(x >> 16) * (int16_t)(w >> 16));
}

EMULATED_EACH(emulated_vpdpbusd, emulated_u32, 16, (__m512i acc, __m512i x, __m512i w),
              EMULATED_AS(emulated_u32, acc).lane[i] +
                  (uint32_t)emulated_dot4(EMULATED_AS(emulated_u32, x).lane[i], EMULATED_AS(emulated_u32, w).lane[i]))
EMULATED_EACH(emulated_vpdpwssd, emulated_u32, 16, (__m512i acc, __m512i x, __m512i w),
              EMULATED_AS(emulated_u32, acc).lane[i] +
                  emulated_dot2(EMULATED_AS(emulated_u32, x).lane[i], EMULATED_AS(emulated_u32, w).lane[i]))
EMULATE __m512i emulated_vpmadd52huq(__m512i acc, __m512i vx, __m512i vy) {
  const emulated_u64 x = EMULATED_AS(emulated_u64, vx), y = EMULATED_AS(emulated_u64, vy);
  const uint64_t low52 = ((uint64_t)1 << 52) - 1;
  emulated_u64 r = EMULATED_AS(emulated_u64, acc);
  if (!emulated_has_ifma()) __builtin_trap();
  for (int i = 0; i < 8; ++i) {
    r.lane[i] += (uint64_t)((unsigned __int128)(x.lane[i] & low52) * (y.lane[i] & low52) >> 52);
  }
  return EMULATED_VECTOR(r);
}

EMULATE __m256i emulated_dot4_256(__m256i acc, __m256i x, __m256i w) {
  return emulated_half(emulated_vpdpbusd(emulated_from_half(acc), emulated_from_half(x), emulated_from_half(w)), 0);
}

// --- Tiles. ---

typedef struct {
  uint8_t row[16][64];
} emulated_tile;

static __thread emulated_tile emulated_tiles[8] __attribute__((unused));
static __thread uint8_t emulated_configuration[64] __attribute__((unused));

// All tiles are zeroed whenever they are configured or released.
EMULATE void emulated_configure_tiles(const void *configuration) {
  memcpy(emulated_configuration, configuration, sizeof emulated_configuration);
  memset(emulated_tiles, 0, sizeof emulated_tiles);
}

EMULATE void emulated_release_tiles(void) {
  const uint8_t none[64] = {0};
  emulated_configure_tiles(none);
}

// Tiles are used at their full size alone: palette 1, and 16 rows of 64 bytes.
EMULATE void emulated_check_tile(int tile) {
  uint16_t row_bytes;
  memcpy(&row_bytes, emulated_configuration + 16 + 2 * tile, sizeof row_bytes);
  if (emulated_configuration[0] != 1 || row_bytes != 64 || emulated_configuration[48 + tile] != 16) __builtin_trap();
}

EMULATE void emulated_load_tile(int tile, const void *from, int64_t stride) {
  emulated_check_tile(tile);
  for (int i = 0; i < 16; ++i) memcpy(emulated_tiles[tile].row[i], (const char *)from + i * stride, 64);
}

EMULATE void emulated_store_tile(int tile, void *to, int64_t stride) {
  emulated_check_tile(tile);
  for (int i = 0; i < 16; ++i) memcpy((char *)to + i * stride, emulated_tiles[tile].row[i], 64);
}

// Row k of `weights` holds four weights for each of 16 sums.
EMULATE void emulated_multiply_tiles(int sums, int rows, int weights) {
  emulated_check_tile(sums);
  emulated_check_tile(rows);
  emulated_check_tile(weights);
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      uint32_t x;
      memcpy(&x, emulated_tiles[rows].row[i] + 4 * k, 4);
      const __m512i sum = emulated_vpdpbusd(emulated_loadu(emulated_tiles[sums].row[i]), emulated_set32((int)x),
                                            emulated_loadu(emulated_tiles[weights].row[k]));
      emulated_storeu(emulated_tiles[sums].row[i], sum);
    }
  }
}

// --- Names. ---

#define QMATH_ACCUMULATE(instruction, acc, x, w) ((acc) = emulated_##instruction(acc, x, w))
#define QMATH_OPAQUE(x) ((void)(x))
#define UF_LOAD_TILE(tile, from, stride) emulated_load_tile(tile, from, stride)
#define UF_STORE_TILE(tile, to, stride) emulated_store_tile(tile, to, stride)
#define UF_MULTIPLY_TILES(sums, rows, weights) emulated_multiply_tiles(sums, rows, weights)
#define UF_CONFIGURE_TILES(configuration) emulated_configure_tiles(&(configuration))
#define UF_RELEASE_TILES() emulated_release_tiles()

// Compilers have some of these as macros.
#undef _mm256_dpbusd_avx_epi32
#undef _mm256_dpbusd_epi32
#undef _mm256_mask_storeu_epi8
#undef _mm_mask_storeu_epi16
#undef _mm_mask_storeu_epi8
#undef _mm512_add_epi32
#undef _mm512_add_epi64
#undef _mm512_broadcast_i32x4
#undef _mm512_castps_si512
#undef _mm512_castsi256_si512
#undef _mm512_castsi512_ps
#undef _mm512_castsi512_si128
#undef _mm512_castsi512_si256
#undef _mm512_cmplt_epi64_mask
#undef _mm512_cmplt_epu32_mask
#undef _mm512_cvtepi32_epi64
#undef _mm512_cvtepi64_epi16
#undef _mm512_dpbusd_epi32
#undef _mm512_dpwssd_epi32
#undef _mm512_extracti32x4_epi32
#undef _mm512_extracti64x4_epi64
#undef _mm512_i64gather_epi64
#undef _mm512_inserti64x4
#undef _mm512_load_si512
#undef _mm512_loadu_si512
#undef _mm512_mask_add_epi32
#undef _mm512_mask_blend_epi32
#undef _mm512_mask_moveldup_ps
#undef _mm512_mask_storeu_epi8
#undef _mm512_mask_sub_epi64
#undef _mm512_maskz_loadu_epi8
#undef _mm512_maskz_mov_epi32
#undef _mm512_max_epi32
#undef _mm512_max_epi64
#undef _mm512_max_epu8
#undef _mm512_min_epi32
#undef _mm512_min_epi64
#undef _mm512_min_epu8
#undef _mm512_mul_epi32
#undef _mm512_mul_epu32
#undef _mm512_mullo_epi32
#undef _mm512_mullo_epi64
#undef _mm512_packs_epi32
#undef _mm512_packus_epi16
#undef _mm512_permutex2var_epi32
#undef _mm512_permutexvar_epi32
#undef _mm512_permutexvar_epi64
#undef _mm512_set1_epi32
#undef _mm512_set1_epi64
#undef _mm512_set1_epi8
#undef _mm512_setr_epi32
#undef _mm512_setr_epi64
#undef _mm512_setzero_si512
#undef _mm512_shuffle_epi8
#undef _mm512_sllv_epi32
#undef _mm512_slli_epi32
#undef _mm512_sra_epi32
#undef _mm512_srai_epi32
#undef _mm512_srav_epi64
#undef _mm512_srli_epi64
#undef _mm512_srlv_epi64
#undef _mm512_store_si512
#undef _mm512_storeu_si512
#undef _mm512_sub_epi32
#undef _mm512_sub_epi8
#undef _mm512_unpackhi_epi16
#undef _mm512_unpackhi_epi8
#undef _mm512_unpacklo_epi16
#undef _mm512_unpacklo_epi8
#undef _mm512_xor_si512

#define _mm256_dpbusd_avx_epi32 emulated_dot4_256
#define _mm256_dpbusd_epi32 emulated_dot4_256
#define _mm256_mask_storeu_epi8 emulated_mask_storeu8_256
#define _mm_mask_storeu_epi16 emulated_mask_storeu16_128
#define _mm_mask_storeu_epi8 emulated_mask_storeu8_128
#define _mm512_add_epi32 emulated_add32
#define _mm512_add_epi64 emulated_add64
#define _mm512_broadcast_i32x4 emulated_broadcast_quarter
#define _mm512_castps_si512
#define _mm512_castsi256_si512 emulated_from_half
#define _mm512_castsi512_ps
#define _mm512_castsi512_si128(v) emulated_quarter(v, 0)
#define _mm512_castsi512_si256(v) emulated_half(v, 0)
#define _mm512_cmplt_epi64_mask emulated_less_i64
#define _mm512_cmplt_epu32_mask emulated_less_u32
#define _mm512_cvtepi32_epi64 emulated_widen32
#define _mm512_cvtepi64_epi16 emulated_narrow64
#define _mm512_dpbusd_epi32 emulated_vpdpbusd
#define _mm512_dpwssd_epi32 emulated_vpdpwssd
#define _mm512_extracti32x4_epi32 emulated_quarter
#define _mm512_extracti64x4_epi64 emulated_half
#define _mm512_i64gather_epi64 emulated_gather64
#define _mm512_inserti64x4 emulated_insert_half
#define _mm512_load_si512 emulated_load
#define _mm512_loadu_si512 emulated_loadu
#define _mm512_mask_add_epi32 emulated_mask_add32
#define _mm512_mask_blend_epi32 emulated_blend32
#define _mm512_mask_moveldup_ps emulated_mask_moveldup
#define _mm512_mask_storeu_epi8 emulated_mask_storeu8
#define _mm512_mask_sub_epi64 emulated_mask_sub64
#define _mm512_maskz_loadu_epi8 emulated_maskz_loadu8
#define _mm512_maskz_mov_epi32 emulated_maskz_mov32
#define _mm512_max_epi32 emulated_max_i32
#define _mm512_max_epi64 emulated_max_i64
#define _mm512_max_epu8 emulated_max_u8
#define _mm512_min_epi32 emulated_min_i32
#define _mm512_min_epi64 emulated_min_i64
#define _mm512_min_epu8 emulated_min_u8
#define _mm512_mul_epi32 emulated_mul32
#define _mm512_mul_epu32 emulated_mulu32
#define _mm512_mullo_epi32 emulated_mullo32
#define _mm512_mullo_epi64 emulated_mullo64
#define _mm512_packs_epi32 emulated_packs32
#define _mm512_packus_epi16 emulated_packus16
#define _mm512_permutex2var_epi32 emulated_permute32_of2
#define _mm512_permutexvar_epi32 emulated_permute32
#define _mm512_permutexvar_epi64 emulated_permute64
#define _mm512_set1_epi32 emulated_set32
#define _mm512_set1_epi64 emulated_set64
#define _mm512_set1_epi8 emulated_set8
#define _mm512_setr_epi32 emulated_setr32
#define _mm512_setr_epi64 emulated_setr64
#define _mm512_setzero_si512 emulated_zero
#define _mm512_shuffle_epi8 emulated_shuffle8
#define _mm512_sllv_epi32 emulated_sllv32
#define _mm512_slli_epi32 emulated_slli32
#define _mm512_sra_epi32 emulated_sra32
#define _mm512_srai_epi32 emulated_srai32
#define _mm512_srav_epi64 emulated_srav64
#define _mm512_srli_epi64 emulated_srli64
#define _mm512_srlv_epi64 emulated_srlv64
#define _mm512_store_si512 emulated_store
#define _mm512_storeu_si512 emulated_storeu
#define _mm512_sub_epi32 emulated_sub32
#define _mm512_sub_epi8 emulated_sub8
#define _mm512_unpackhi_epi16 emulated_unpackhi16
#define _mm512_unpackhi_epi8 emulated_unpackhi8
#define _mm512_unpacklo_epi16 emulated_unpacklo16
#define _mm512_unpacklo_epi8 emulated_unpacklo8
#define _mm512_xor_si512 emulated_xor

#endif  // UNFLOAT_TESTS_EMULATED_IMMINTRIN_H_
