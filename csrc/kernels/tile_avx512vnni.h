// A tile of accumulators in registers: up to 6 rows (output pixels) of 64 output channels, 24 of the 32 registers.
// Shared by the convolutions and the fully connected kernel (C11, AVX-512 VNNI).
//
// A tile is a struct of named vectors and its functions are always inlined with constant `rows` and `vectors`: gcc keeps
// structs in registers where it would spill arrays, and drops what a smaller tile does not use.

#ifndef UNFLOAT_KERNELS_TILE_AVX512VNNI_H_
#define UNFLOAT_KERNELS_TILE_AVX512VNNI_H_

#include <string.h>

#include "kernel.h"
#include "qmath_avx512.h"

#define UF_INLINE static inline __attribute__((always_inline))

enum { UF_TILE_ROWS = 6, UF_TILE_CHANNELS = 64, UF_TILE_VECTORS = 4 };

// How the accumulators of a block become bytes, fastest first (see qmath_avx512.h).
typedef enum { UF_ABSORBED, UF_BENT, UF_EXACT } uf_form;

// What 64 output channels need besides their weights. Constants are in *lane order*, `uf_channel_of_lane`.
typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t start[UF_TILE_CHANNELS];  // bias, input zero point and offset
  union {
    qmath_absorbed16 absorbed[UF_TILE_VECTORS];
    qmath_exact16 exact[UF_TILE_VECTORS];
  } rescale;
  _Alignas(UF_ALIGNMENT) uf_form form;
  uint32_t clamp_min, clamp_max;  // four times the same byte
} uf_block;

typedef struct {
  __m512i v0, v1, v2, v3;
} uf_row;

typedef struct {
  uf_row r0, r1, r2, r3, r4, r5;
} uf_tile;

// Lane `lane` of the 16 * vectors lanes of a row holds this channel of its block. Packing dwords to bytes interleaves
// 128-bit quarters, so a full row is laid out to come out in order.
static inline int uf_channel_of_lane(int lane, int vectors) {
  return vectors < UF_TILE_VECTORS ? lane : lane % 16 / 4 * 16 + lane / 16 * 4 + lane % 4;
}

// ---- Packing ---------------------------------------------------------------------------------------------------------

// The sums of a channel's negative and positive weights: all that its bounds and its zero point correction depend on.
typedef struct {
  int64_t negative, positive;
} uf_weight_sums;

static inline void uf_add_weight(uf_weight_sums *sums, int8_t weight) {
  if (weight < 0) {
    sums->negative += weight;
  } else {
    sums->positive += weight;
  }
}

// Fills a block for the output channels [first, first + count), whose weights have these sums.
static inline void uf_pack_block(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                                 int vectors, uf_block *block) {
  qmath_channel channels[UF_TILE_CHANNELS];
  qmath_absorbed absorbed[UF_TILE_CHANNELS];
  memset(block, 0, sizeof *block);
  block->form = qmath_has_absorbed16() ? UF_ABSORBED : UF_EXACT;
  block->clamp_min = 0x01010101u * (uint32_t)linear->output.clamp_min;
  block->clamp_max = 0x01010101u * (uint32_t)linear->output.clamp_max;
  for (int c = 0; c < count; ++c) {
    const int64_t correction = linear->input_zero_point * (sums[c].negative + sums[c].positive);
    const int64_t start = linear->bias[first + c] - correction;
    const qmath_channel channel = {
        .multiplier = linear->multiplier[first + c],
        .shift = linear->shift[first + c],
        .rounding = linear->output.rounding,
        .zero_point = linear->output.zero_point,
        .clamp_min = linear->output.clamp_min,
        .clamp_max = linear->output.clamp_max,
        .low = start + UINT8_MAX * sums[c].negative,
        .high = start + UINT8_MAX * sums[c].positive,
    };
    channels[c] = channel;
    if (block->form != UF_EXACT && !qmath_absorb(&channel, &absorbed[c])) block->form = UF_EXACT;
    if (block->form == UF_ABSORBED && qmath_is_bent(&absorbed[c])) block->form = UF_BENT;
  }
  for (int lane = 0; lane < 16 * vectors; ++lane) {
    const int c = uf_channel_of_lane(lane, vectors);
    if (c >= count) continue;
    const int64_t correction = linear->input_zero_point * (sums[c].negative + sums[c].positive);
    const int64_t offset = block->form == UF_EXACT ? 0 : absorbed[c].offset;
    block->start[lane] = (int32_t)(uint32_t)(linear->bias[first + c] - correction + offset);
    if (block->form == UF_EXACT) {
      qmath_exact16_set(&block->rescale.exact[lane / 16], lane % 16, &channels[c]);
    } else {
      qmath_absorbed16_set(&block->rescale.absorbed[lane / 16], lane % 16, &absorbed[c]);
    }
  }
}

// ---- Accumulating ----------------------------------------------------------------------------------------------------

// acc + four products u8 * s8 in each lane. Assembly because gcc 12 copies the accumulator round _mm512_dpbusd_epi32.
UF_INLINE __m512i uf_dot4(__m512i acc, __m512i x, __m512i w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
  return acc;
}

// Four bytes of activations in every lane.
UF_INLINE __m512i uf_broadcast4(const uint8_t *x) {
  int32_t four;
  memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}

UF_INLINE uf_row uf_load_row(const void *data, int vectors) {
  const __m512i *vector = data, zero = _mm512_setzero_si512();
  const uf_row row = {_mm512_load_si512(vector), vectors > 1 ? _mm512_load_si512(vector + 1) : zero,
                      vectors > 2 ? _mm512_load_si512(vector + 2) : zero,
                      vectors > 3 ? _mm512_load_si512(vector + 3) : zero};
  return row;
}

UF_INLINE void uf_store_row(void *data, const uf_row *row) {
  __m512i *vector = data;
  _mm512_store_si512(vector, row->v0);
  _mm512_store_si512(vector + 1, row->v1);
  _mm512_store_si512(vector + 2, row->v2);
  _mm512_store_si512(vector + 3, row->v3);
}

// A statement for each row of a tile; the conditions are constants.
#define UF_EACH_ROW(rows, DO) \
  do {                        \
    DO(0);                    \
    if ((rows) > 1) DO(1);    \
    if ((rows) > 2) DO(2);    \
    if ((rows) > 3) DO(3);    \
    if ((rows) > 4) DO(4);    \
    if ((rows) > 5) DO(5);    \
  } while (0)

UF_INLINE uf_tile uf_start_tile(const uf_block *block, int vectors) {
  const uf_row row = uf_load_row(block->start, vectors);
  const uf_tile tile = {row, row, row, row, row, row};
  return tile;
}

// ---- Rescaling and storing -------------------------------------------------------------------------------------------

UF_INLINE __m512i uf_rescale_vector(__m512i acc, const qmath_absorbed16_registers *registers,
                                    const qmath_absorbed16 *lanes, uf_form form) {
  return form == UF_BENT ? qmath_rescale_bent16(acc, registers, lanes) : qmath_rescale_absorbed16(acc, registers);
}

// One vector of every row, so that its constants are loaded once.
#define UF_RESCALE_COLUMN(v, source, rows)                            \
  do {                                                                               \
    const qmath_absorbed16 *lanes = source;                                      \
    const qmath_absorbed16_registers registers = qmath_absorbed16_load(lanes);       \
    UF_EACH_ROW(rows, UF_RESCALE_##v);                                               \
  } while (0)
#define UF_RESCALE_v0(i) tile->r##i.v0 = uf_rescale_vector(tile->r##i.v0, &registers, lanes, form)
#define UF_RESCALE_v1(i) tile->r##i.v1 = uf_rescale_vector(tile->r##i.v1, &registers, lanes, form)
#define UF_RESCALE_v2(i) tile->r##i.v2 = uf_rescale_vector(tile->r##i.v2, &registers, lanes, form)
#define UF_RESCALE_v3(i) tile->r##i.v3 = uf_rescale_vector(tile->r##i.v3, &registers, lanes, form)

UF_INLINE void uf_rescale_tile(uf_tile *tile, const uf_block *block, int rows, int vectors, uf_form form) {
  const qmath_absorbed16 *constants = block->rescale.absorbed;
  UF_RESCALE_COLUMN(v0, constants + 0, rows);
  if (vectors > 1) UF_RESCALE_COLUMN(v1, constants + 1, rows);
  if (vectors > 2) UF_RESCALE_COLUMN(v2, constants + 2, rows);
  if (vectors > 3) UF_RESCALE_COLUMN(v3, constants + 3, rows);
}

typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t lane[UF_TILE_ROWS][UF_TILE_CHANNELS];
} uf_spilled;

// The rare form takes the way through memory: registers would not hold its constants.
static __attribute__((noinline)) void uf_rescale_exact(uf_spilled *spilled, const uf_block *block, int rows,
                                                       int vectors) {
  for (int v = 0; v < vectors; ++v) {
    for (int r = 0; r < rows; ++r) {
      int32_t *lanes = spilled->lane[r] + 16 * v;
      _mm512_store_si512(lanes, qmath_rescale_exact16(_mm512_load_si512(lanes), &block->rescale.exact[v]));
    }
  }
}

UF_INLINE void uf_rescale_tile_exact(uf_tile *tile, const uf_block *block, int rows, int vectors) {
  uf_spilled spilled;
#define UF_SPILL(i) uf_store_row(spilled.lane[i], &tile->r##i)
#define UF_FILL(i) tile->r##i = uf_load_row(spilled.lane[i], vectors)
  UF_EACH_ROW(rows, UF_SPILL);
  uf_rescale_exact(&spilled, block, rows, vectors);
  UF_EACH_ROW(rows, UF_FILL);
#undef UF_SPILL
#undef UF_FILL
}

// 32-bit results to bytes in channel order.
UF_INLINE __m512i uf_pack_row(const uf_row *row, int vectors) {
  const __m512i words01 = _mm512_packs_epi32(row->v0, row->v1), words23 = _mm512_packs_epi32(row->v2, row->v3);
  const __m512i bytes = _mm512_packus_epi16(words01, words23);
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return vectors < UF_TILE_VECTORS ? _mm512_permutexvar_epi32(order, bytes) : bytes;
}

UF_INLINE void uf_rescale_any(uf_tile *tile, const uf_block *block, int rows, int vectors) {
  if (__builtin_expect(block->form == UF_ABSORBED, 1)) {
    uf_rescale_tile(tile, block, rows, vectors, UF_ABSORBED);
  } else if (block->form == UF_BENT) {
    uf_rescale_tile(tile, block, rows, vectors, UF_BENT);
  } else {
    uf_rescale_tile_exact(tile, block, rows, vectors);
  }
}

// Rescales a tile and stores row r at out[r], only the channels in `mask`.
UF_INLINE void uf_finish_tile(uf_tile *tile, const uf_block *block, int rows, int vectors, uint8_t *const *out,
                              __mmask64 mask) {
  uf_rescale_any(tile, block, rows, vectors);
  const __m512i low = _mm512_set1_epi32((int)block->clamp_min), high = _mm512_set1_epi32((int)block->clamp_max);
#define UF_STORE(i) \
  _mm512_mask_storeu_epi8(out[i], mask, _mm512_min_epu8(_mm512_max_epu8(uf_pack_row(&tile->r##i, vectors), low), high))
  UF_EACH_ROW(rows, UF_STORE);
#undef UF_STORE
}

static inline __mmask64 uf_channel_mask(int64_t count) {
  return count >= UF_TILE_CHANNELS ? ~(__mmask64)0 : ((__mmask64)1 << count) - 1;
}

#endif  // UNFLOAT_KERNELS_TILE_AVX512VNNI_H_
