// Rows of 64 outputs in the matrix products with 512-bit vectors (gemm.h): which channels are in their lanes, how a
// block is packed for them, how their bytes are stored (C11).

#ifndef UNFLOAT_KERNELS_GEMM_ROWS_AVX512_H_
#define UNFLOAT_KERNELS_GEMM_ROWS_AVX512_H_

#include "../tile_avx512vnni.h"
#include "gemm.h"

// How a row of a tile is made of a block's channels. Narrow blocks have several pixels in a row, side by side, so that
// it fills its vectors all the same. 24 channels, common in mobile networks, are one vector and half of one that two
// pixels share.
typedef enum { CHANNELS_16, CHANNELS_24, CHANNELS_32, CHANNELS_48, CHANNELS_64, ARRANGEMENTS } arrangement;

UF_INLINE int row_channels(arrangement kind) {
  return kind == CHANNELS_16 ? 16 : kind == CHANNELS_24 ? 24 : 16 * (int)kind;
}

UF_INLINE int row_pixels(arrangement kind) { return kind == CHANNELS_16 ? 4 : kind <= CHANNELS_32 ? 2 : 1; }

UF_INLINE int row_vectors(arrangement kind) { return kind == CHANNELS_24 || kind == CHANNELS_48 ? 3 : 4; }

UF_INLINE int weight_vectors(arrangement kind) { return (row_channels(kind) + 15) / 16; }

static inline arrangement block_arrangement(const uf_gemm_shape *shape, int64_t block) {
  const int64_t left = shape->channels - block * UF_TILE_CHANNELS;
  return left <= 16   ? CHANNELS_16
         : left <= 24 ? CHANNELS_24
         : left <= 32 ? CHANNELS_32
         : left <= 48 ? CHANNELS_48
                      : CHANNELS_64;
}

// The channels of a row's lanes. The weights have the first of these lanes, weight_vectors() of them.
static inline uf_lane_map lane_map(arrangement kind) {
  if (kind == CHANNELS_64) return uf_quarter_order(UF_TILE_CHANNELS);
  uf_lane_map map = {.lanes = 16 * row_vectors(kind)};
  for (int lane = 0; lane < map.lanes; ++lane) {
    const bool shared = kind == CHANNELS_24 && lane / 16 == 1;
    map.channel[lane] = (uint8_t)(shared ? 16 + lane % 8 : kind == CHANNELS_24 ? lane % 16 : lane % row_channels(kind));
  }
  return map;
}

// --- Packing. ---

// One channel's weights into its lane of `lanes`; `packed` is zeroed.
typedef void (*lane_packer)(const int8_t *weight, const uf_gemm_shape *shape, int lane, int lanes, int8_t *packed);

// A uf_block and, behind it, weights.
static inline void pack_block(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, int64_t block,
                              arrangement kind, lane_packer pack_lane, uint8_t *packed) {
  uf_weight_sums sums[UF_TILE_CHANNELS];
  const uf_lane_map map = lane_map(kind);
  const int lanes = 16 * weight_vectors(kind);
  const int64_t begin = block * UF_TILE_CHANNELS, left = shape->channels - begin, length = shape->taps * shape->depth;
  const int count = left < UF_TILE_CHANNELS ? (int)left : UF_TILE_CHANNELS;
  int8_t *weights = (int8_t *)packed + sizeof(uf_block);
  for (int lane = 0; lane < lanes; ++lane) {
    const int c = map.channel[lane];
    if (c >= count) continue;
    const int8_t *weight = linear->weight + (first + begin + c) * length;
    pack_lane(weight, shape, lane, lanes, weights);
    sums[c] = uf_sum_weights(weight, length, 1);
  }
  uf_pack_block(linear, first + begin, count, sums, &map, (uf_block *)packed);
}

// --- Storing. ---

// Where rows go: channels and pixels that are to be stored.
typedef struct {
  uint8_t *out;
  int64_t stride, channels, pixels;
} destination;

// The bytes of a row, pixel by pixel. Quarter order brings a dword of each of the four vectors together; only a row of
// 64 channels is laid out for that.
UF_INLINE __m512i row_bytes(const uf_row *row, const uf_clamp *clamp, arrangement kind, uf_form form) {
  const __m512i bytes = uf_row_bytes(row, clamp, form);
  const __m512i vectors = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i halves = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 2, 6, 10, 14, 9, 13, 3, 7, 11, 15);
  return kind == CHANNELS_64 ? bytes : _mm512_permutexvar_epi32(kind == CHANNELS_24 ? halves : vectors, bytes);
}

// Stores a row's pixels, which are not neighbours.
UF_INLINE void store_row_apart(uint8_t *out, int64_t stride, __mmask64 channels, __m512i bytes, arrangement kind) {
  if (kind == CHANNELS_16) {
    const __mmask16 mask = (__mmask16)channels;
    _mm_mask_storeu_epi8(out, mask, _mm512_castsi512_si128(bytes));
    _mm_mask_storeu_epi8(out + stride, mask, _mm512_extracti32x4_epi32(bytes, 1));
    _mm_mask_storeu_epi8(out + 2 * stride, mask, _mm512_extracti32x4_epi32(bytes, 2));
    _mm_mask_storeu_epi8(out + 3 * stride, mask, _mm512_extracti32x4_epi32(bytes, 3));
  } else if (kind == CHANNELS_32) {
    const __mmask32 mask = (__mmask32)channels;
    _mm256_mask_storeu_epi8(out, mask, _mm512_castsi512_si256(bytes));
    _mm256_mask_storeu_epi8(out + stride, mask, _mm512_extracti64x4_epi64(bytes, 1));
  } else {
    const int spacing = row_channels(kind);
    _mm512_mask_storeu_epi8(out, channels, bytes);
    _mm512_mask_storeu_epi8(out + stride - spacing, channels << spacing, bytes);
  }
}

// Stores those pixels of some rows that exist. A function of its own, which leaves the common way its registers.
static __attribute__((noinline)) void store_some(const destination *to, const __m512i *bytes, int rows,
                                                 arrangement kind) {
  const int pixels = row_pixels(kind), spacing = row_channels(kind);
  for (int64_t at = 0; at < rows * pixels && at < to->pixels; ++at) {
    const int64_t before = at % pixels * spacing;
    const __mmask64 mask = uf_first_bytes(to->channels) << before;
    _mm512_mask_storeu_epi8(to->out + at * to->stride - before, mask, bytes[at / pixels]);
  }
}

// Stores the pixels of a tile that exist; the destination is left at what follows them.
UF_INLINE void store_tile(destination *to, const uf_tile *tile, const uf_block *block, int rows, arrangement kind,
                          uf_form form) {
  const int pixels = row_pixels(kind), spacing = row_channels(kind);
  const uf_clamp clamp = uf_load_clamp(block);
  const __mmask64 channels = uf_first_bytes(to->channels);
  if (pixels > 1 && __builtin_expect(to->pixels < rows * pixels, 0)) {
    __m512i bytes[UF_TILE_ROWS];
#define TO_BYTES(i) bytes[i] = row_bytes(&tile->r##i, &clamp, kind, form)
    UF_EACH_ROW(rows, TO_BYTES);
#undef TO_BYTES
    store_some(to, bytes, rows, kind);
  } else if (pixels == 1 || (to->stride == spacing && to->channels == spacing)) {
    const __mmask64 all = pixels == 1 ? channels : uf_first_bytes(pixels * spacing);
#define STORE_ROW(i) \
  _mm512_mask_storeu_epi8(to->out + i * pixels * to->stride, all, row_bytes(&tile->r##i, &clamp, kind, form))
    UF_EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
  } else {
#define STORE_ROW(i)                                                                                                   \
  store_row_apart(to->out + i * pixels * to->stride, to->stride, channels, row_bytes(&tile->r##i, &clamp, kind, form), \
                  kind)
    UF_EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
  }
  to->out += rows * pixels * to->stride;
  to->pixels -= rows * pixels;
}

// Sums to stored bytes.
UF_INLINE void finish_tile(uf_tile *tile, const uf_block *block, destination *to, int rows, arrangement kind) {
  if (__builtin_expect(block->form == UF_ABSORBED, 1)) {
    uf_rescale_absorbed(tile, block, rows, row_vectors(kind), UF_ABSORBED);
    store_tile(to, tile, block, rows, kind, UF_ABSORBED);
  } else {
    uf_rescale_other_forms(tile, block, rows, row_vectors(kind));
    store_tile(to, tile, block, rows, kind, UF_BENT);
  }
}

#endif  // UNFLOAT_KERNELS_GEMM_ROWS_AVX512_H_
