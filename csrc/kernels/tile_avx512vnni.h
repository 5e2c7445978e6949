// A tile of accumulators in registers: up to 6 rows of 64 outputs, 24 of the 32 registers. Shared by the convolutions
// and the fully connected kernel (C11, AVX-512 VNNI).
//
// A row is one pixel of 64 channels, or, where a block has 16 or 32 channels, 4 or 2 pixels side by side, so that
// narrow layers keep as many accumulators busy.
//
// A tile is a struct of named vectors and its functions are always inlined with constant `rows` and `vectors`: gcc
// keeps structs in registers where it would spill arrays, and drops what a smaller tile does not use.

#ifndef UNFLOAT_KERNELS_TILE_AVX512VNNI_H_
#define UNFLOAT_KERNELS_TILE_AVX512VNNI_H_

#include <string.h>

#include "channel.h"
#include "kernel.h"
#include "qmath_avx512.h"

enum { UF_TILE_ROWS = 6, UF_TILE_CHANNELS = 64, UF_TILE_VECTORS = 4 };

// What a block of up to 64 output channels needs besides its weights, for each lane of a row.
typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t start[UF_TILE_CHANNELS];  // bias, input zero point and offset
  union {
    qmath_absorbed16 absorbed[UF_TILE_VECTORS];
    qmath_shifted16 shifted[UF_TILE_VECTORS];
    qmath_exact16 exact[UF_TILE_VECTORS];
  } rescale;
  _Alignas(UF_ALIGNMENT) uf_form form;  // for UF_CLAMPED, UF_BENT serves
  uint32_t clamp_min, clamp_max;        // four times the same byte
} uf_block;

typedef struct {
  __m512i v0, v1, v2, v3;
} uf_row;

typedef struct {
  uf_row r0, r1, r2, r3, r4, r5;
} uf_tile;

// Each lane of a row holds this channel of its block: lane 16 v + 4 q + i is in vector v, in its 128-bit quarter q.
typedef struct {
  int lanes;
  uint8_t channel[UF_TILE_CHANNELS];
} uf_lane_map;

// Packing dwords to bytes brings the quarters together: the bytes of lanes 4 q + i of the four vectors come out as the
// bytes 16 q + 4 v + i. A block in *quarter order* accounts for that; `channels` (16, 32 or 64) of it make a pixel.
static inline uf_lane_map uf_quarter_order(int channels) {
  uf_lane_map map = {.lanes = UF_TILE_CHANNELS};
  for (int lane = 0; lane < map.lanes; ++lane) {
    map.channel[lane] = (uint8_t)((lane % 16 / 4 * 16 + lane / 16 * 4 + lane % 4) % channels);
  }
  return map;
}

// --- Packing. ---

// Fills a block for the output channels [first, first + count), whose weights have these sums. Lanes whose channel is
// not below `count` stay as they are, zeroed.
static inline void uf_pack_block(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                                 const uf_lane_map *map, uf_block *block) {
  qmath_channel channels[UF_TILE_CHANNELS];
  qmath_absorbed absorbed[UF_TILE_CHANNELS];
  for (int c = 0; c < count; ++c) channels[c] = uf_channel_of(linear, first + c, &sums[c]);
  const bool has_absorbed = qmath_has_absorbed16();
  block->form = uf_absorb_all(channels, count, has_absorbed ? QMATH_ABSORBED_BITS : 0, absorbed);
  block->clamp_min = 0x01010101u * (uint32_t)linear->output.clamp_min;
  block->clamp_max = 0x01010101u * (uint32_t)linear->output.clamp_max;
  if (uf_with_clamp(block->form, &linear->output) == UF_CLAMPED) block->form = UF_BENT;
  if (block->form != UF_EXACT && !has_absorbed) block->form = UF_SHIFTED;
  for (int lane = 0; lane < map->lanes; ++lane) {
    const int c = map->channel[lane];
    if (c >= count) continue;
    const int64_t start = uf_start_of(linear, first + c, &sums[c]);
    const int64_t offset = block->form == UF_EXACT ? 0 : absorbed[c].offset;
    block->start[lane] = (int32_t)(uint32_t)(start + offset);
    if (block->form == UF_EXACT) {
      qmath_exact16_set(&block->rescale.exact[lane / 16], lane % 16, &channels[c]);
    } else if (block->form == UF_SHIFTED) {
      qmath_shifted16_set(&block->rescale.shifted[lane / 16], lane % 16, &absorbed[c], qmath_high_bits(&channels[c]));
    } else {
      qmath_absorbed16_set(&block->rescale.absorbed[lane / 16], lane % 16, &absorbed[c]);
    }
  }
}

// --- Accumulating. ---

// Products that an instruction adds to the accumulator in each lane: of one vector, and of three or four in one
// statement. Assembly, because gcc 12 copies the accumulator round the intrinsics; one statement leaves it fewer places
// to put copies.
#define UF_DEFINE_DOT(name, instruction)                      \
  UF_INLINE __m512i name(__m512i acc, __m512i x, __m512i w) { \
    QMATH_ACCUMULATE(instruction, acc, x, w);                 \
    return acc;                                               \
  }

#ifdef UF_EMULATED  // no assembly

#define UF_DEFINE_DOTS(name, instruction)                                                                              \
  UF_DEFINE_DOT(name, instruction)                                                                                     \
  UF_INLINE void name##_3(__m512i *acc0, __m512i *acc1, __m512i *acc2, __m512i x0, __m512i w0, __m512i x1, __m512i w1, \
                          __m512i x2, __m512i w2) {                                                                    \
    *acc0 = name(*acc0, x0, w0);                                                                                       \
    *acc1 = name(*acc1, x1, w1);                                                                                       \
    *acc2 = name(*acc2, x2, w2);                                                                                       \
  }                                                                                                                    \
  UF_INLINE void name##_row(uf_row *acc, __m512i x0, __m512i w0, __m512i x1, __m512i w1, __m512i x2, __m512i w2,       \
                            __m512i x3, __m512i w3) {                                                                  \
    name##_3(&acc->v0, &acc->v1, &acc->v2, x0, w0, x1, w1, x2, w2);                                                    \
    acc->v3 = name(acc->v3, x3, w3);                                                                                   \
  }

#else

#define UF_DEFINE_DOTS(name, instruction)                                                                              \
  UF_DEFINE_DOT(name, instruction)                                                                                     \
  UF_INLINE void name##_3(__m512i *acc0, __m512i *acc1, __m512i *acc2, __m512i x0, __m512i w0, __m512i x1, __m512i w1, \
                          __m512i x2, __m512i w2) {                                                                    \
    __asm__(#instruction " %4, %3, %0\n\t" #instruction " %6, %5, %1\n\t" #instruction " %8, %7, %2"                   \
            : "+&v"(*acc0), "+&v"(*acc1), "+&v"(*acc2)                                                                 \
            : "v"(x0), "v"(w0), "v"(x1), "v"(w1), "v"(x2), "v"(w2));                                                   \
  }                                                                                                                    \
  UF_INLINE void name##_row(uf_row *acc, __m512i x0, __m512i w0, __m512i x1, __m512i w1, __m512i x2, __m512i w2,       \
                            __m512i x3, __m512i w3) {                                                                  \
    __asm__(#instruction " %5, %4, %0\n\t" #instruction " %7, %6, %1\n\t" #instruction " %9, %8, %2\n\t" #instruction  \
                         " %11, %10, %3"                                                                               \
            : "+&v"(acc->v0), "+&v"(acc->v1), "+&v"(acc->v2), "+&v"(acc->v3)                                           \
            : "v"(x0), "v"(w0), "v"(x1), "v"(w1), "v"(x2), "v"(w2), "v"(x3), "v"(w3));                                 \
  }

#endif

UF_DEFINE_DOTS(uf_dot4, vpdpbusd)  // u8 * s8, four
UF_DEFINE_DOTS(uf_dot2, vpdpwssd)  // words, two

// The bytes of a and b, 64 each, that `order` names. Assembly, so that a file built without AVX-512 VBMI may hold it.
UF_INLINE __m512i uf_permute_bytes(__m512i a, __m512i order, __m512i b) {
  QMATH_ACCUMULATE(vpermt2b, a, order, b);
  return a;
}

// The same value, but the compiler no longer knows from where. gcc 12 keeps whatever it can compute again out of a
// loop, for which these loops have no register to spare.
UF_INLINE __m512i uf_own(__m512i x) {
  QMATH_OPAQUE(x);
  return x;
}

UF_INLINE const void *uf_own_pointer(const void *x) {
  __asm__("" : "+r"(x));
  return x;
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

UF_INLINE void uf_store_row(void *data, const uf_row *row, int vectors) {
  __m512i *vector = data;
  _mm512_store_si512(vector, row->v0);
  if (vectors > 1) _mm512_store_si512(vector + 1, row->v1);
  if (vectors > 2) _mm512_store_si512(vector + 2, row->v2);
  if (vectors > 3) _mm512_store_si512(vector + 3, row->v3);
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

// --- Rescaling and storing. ---

UF_INLINE __m512i uf_rescale_vector(__m512i acc, const qmath_absorbed16_registers *registers,
                                    const qmath_absorbed16 *lanes, uf_form form) {
  return form == UF_BENT ? qmath_rescale_bent16(acc, registers, &lanes->bend)
                         : qmath_rescale_absorbed16(acc, registers);
}

// One vector of every row. Its constants stay in registers: gcc 12 would load them again for each row.
UF_INLINE void uf_rescale_column(uf_tile *tile, const uf_block *block, int column, int rows, uf_form form) {
  const qmath_absorbed16 *lanes = &block->rescale.absorbed[column];
  const qmath_absorbed16_registers loaded = qmath_absorbed16_load(lanes);
  const qmath_absorbed16_registers registers = {uf_own(loaded.factor_even), uf_own(loaded.factor_odd),
                                                uf_own(loaded.addend_even), uf_own(loaded.addend_odd)};
#define RESCALE(n, i) tile->r##i.v##n = uf_rescale_vector(tile->r##i.v##n, &registers, lanes, form)
#define RESCALE_0(i) RESCALE(0, i)
#define RESCALE_1(i) RESCALE(1, i)
#define RESCALE_2(i) RESCALE(2, i)
#define RESCALE_3(i) RESCALE(3, i)
  if (column == 0) UF_EACH_ROW(rows, RESCALE_0);
  if (column == 1) UF_EACH_ROW(rows, RESCALE_1);
  if (column == 2) UF_EACH_ROW(rows, RESCALE_2);
  if (column == 3) UF_EACH_ROW(rows, RESCALE_3);
#undef RESCALE_0
#undef RESCALE_1
#undef RESCALE_2
#undef RESCALE_3
#undef RESCALE
}

UF_INLINE void uf_rescale_absorbed(uf_tile *tile, const uf_block *block, int rows, int vectors, uf_form form) {
  uf_rescale_column(tile, block, 0, rows, form);
  uf_rescale_column(tile, block, 1, rows, form);
  if (vectors > 2) uf_rescale_column(tile, block, 2, rows, form);
  if (vectors > 3) uf_rescale_column(tile, block, 3, rows, form);
}

typedef struct {
  _Alignas(UF_ALIGNMENT) int32_t lane[UF_TILE_ROWS][UF_TILE_CHANNELS];
} uf_spilled;

// Forms whose constants registers would not hold take the way through memory.
static __attribute__((noinline)) void uf_rescale_spilled(uf_spilled *spilled, const uf_block *block, int rows,
                                                         int vectors) {
  for (int v = 0; v < vectors; ++v) {
    for (int r = 0; r < rows; ++r) {
      int32_t *lanes = spilled->lane[r] + 16 * v;
      const __m512i sums = _mm512_load_si512(lanes);
      _mm512_store_si512(lanes, block->form == UF_SHIFTED ? qmath_rescale_shifted16(sums, &block->rescale.shifted[v])
                                                          : qmath_rescale_exact16(sums, &block->rescale.exact[v]));
    }
  }
}

UF_INLINE void uf_rescale_in_memory(uf_tile *tile, const uf_block *block, int rows, int vectors) {
  uf_spilled spilled;
#define UF_SPILL(i) uf_store_row(spilled.lane[i], &tile->r##i, vectors)
#define UF_FILL(i) tile->r##i = uf_load_row(spilled.lane[i], vectors)
  UF_EACH_ROW(rows, UF_SPILL);
  uf_rescale_spilled(&spilled, block, rows, vectors);
  UF_EACH_ROW(rows, UF_FILL);
#undef UF_SPILL
#undef UF_FILL
}

// The shifted form in registers, for functions compiled for it alone: beside others gcc 12 would copy accumulators.
UF_INLINE void uf_rescale_shifted(uf_tile *tile, const uf_block *block, int rows, int vectors) {
  const qmath_shifted16 *lanes = block->rescale.shifted;
#define UF_SHIFT(n, i) tile->r##i.v##n = qmath_rescale_shifted16(tile->r##i.v##n, &lanes[n])
#define UF_SHIFT_ROW(i)              \
  do {                               \
    UF_SHIFT(0, i);                  \
    UF_SHIFT(1, i);                  \
    if (vectors > 2) UF_SHIFT(2, i); \
    if (vectors > 3) UF_SHIFT(3, i); \
  } while (0)
  UF_EACH_ROW(rows, UF_SHIFT_ROW);
#undef UF_SHIFT_ROW
#undef UF_SHIFT
}

// The forms that are not UF_ABSORBED.
UF_INLINE void uf_rescale_other_forms(uf_tile *tile, const uf_block *block, int rows, int vectors) {
  if (block->form == UF_BENT) {
    uf_rescale_absorbed(tile, block, rows, vectors, UF_BENT);
  } else {
    uf_rescale_in_memory(tile, block, rows, vectors);
  }
}

typedef struct {
  __m512i low, high;
} uf_clamp;

UF_INLINE uf_clamp uf_load_clamp(const uf_block *block) {
  const uf_clamp clamp = {_mm512_set1_epi32((int)block->clamp_min), _mm512_set1_epi32((int)block->clamp_max)};
  return clamp;
}

// A row of 32-bit results to clamped bytes, 16 q + 4 v + i from lane i of quarter q of vector v.
UF_INLINE __m512i uf_row_bytes(const uf_row *row, const uf_clamp *clamp, uf_form form) {
  const __m512i words01 = _mm512_packs_epi32(row->v0, row->v1), words23 = _mm512_packs_epi32(row->v2, row->v3);
  const __m512i bytes = _mm512_packus_epi16(words01, words23);
  return form == UF_ABSORBED ? bytes : _mm512_min_epu8(_mm512_max_epu8(bytes, clamp->low), clamp->high);
}

// The mask of the first `count` bytes, count >= 0.
static inline __mmask64 uf_first_bytes(int64_t count) {
  return count < 64 ? ((__mmask64)1 << count) - 1 : ~(__mmask64)0;
}

#endif  // UNFLOAT_KERNELS_TILE_AVX512VNNI_H_
