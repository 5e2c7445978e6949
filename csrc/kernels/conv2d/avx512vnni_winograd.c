// Winograd's form of a convolution (winograd.h) with vectors of 512 bits (C11, AVX-512 VNNI). An instruction makes
// twice as many products of bytes as of words, so the form saves half of the multiplications.
//
// A tile is up to 6 rows of 64 sums, or 48; where a block has 32 channels, a row holds two squares of them side by
// side, and afterwards two outputs of one square. Sums of a square that does not exist, which make a row whole, are not
// looked at.

#include "../gemm/rows_avx512.h"

enum {
  MOST_BLOCK_CHANNELS = UF_TILE_CHANNELS,
  MOST_WEIGHTS = 1 << 14,
  LEAST_CHANNELS = 32,
  WORDS_COST = 2,
  SPARE_SQUARES = 1,
};

typedef uf_block block_type;
typedef __m512i sums_type;
#define SUMS(name) _mm512_##name

UF_INLINE __m512i load_sums(const int32_t *sums) { return _mm512_load_si512(sums); }

#include "winograd.h"

// Blocks of 32, 48 or 64 channels.
static arrangement kind_of(const winograd_plan *plan) {
  return plan->block_channels == 32 ? CHANNELS_32 : plan->block_channels == 48 ? CHANNELS_48 : CHANNELS_64;
}

// The first lane that has a channel; lanes of a row's further squares have the same weights.
static int weight_lane(const winograd_plan *plan, int channel) {
  const uf_lane_map map = lane_map(kind_of(plan));
  int lane = 0;
  while (map.channel[lane] != channel) ++lane;
  return lane;
}

static void pack_constants(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                           const winograd_plan *plan, uf_block *block) {
  const uf_lane_map map = lane_map(kind_of(plan));
  uf_pack_block(linear, first, count, sums, &map, block);
}

// --- Products. ---

// Sums of the squares of up to 6 rows with a block at a place.
typedef struct {
  const uint8_t *words;  // of the first square
  int64_t square_bytes, steps;
  const int16_t *weights;
  int32_t *sums;  // [squares][block_channels]
} place_product;

// One step of a row.
UF_INLINE void multiply_row(uf_row *acc, const uint8_t *x, int64_t bytes, const uf_row *w, arrangement kind) {
  const __m512i a = uf_broadcast4(x), b = row_pixels(kind) > 1 ? uf_broadcast4(x + bytes) : a;
  if (kind == CHANNELS_32) {
    uf_dot2_row(acc, a, w->v0, a, w->v1, b, w->v0, b, w->v1);
  } else if (kind == CHANNELS_48) {
    uf_dot2_3(&acc->v0, &acc->v1, &acc->v2, a, w->v0, a, w->v1, a, w->v2);
  } else {
    uf_dot2_row(acc, a, w->v0, a, w->v1, a, w->v2, a, w->v3);
  }
}

// The weights of the next place follow these, and are fetched meanwhile.
UF_INLINE void multiply(const place_product *product, int rows, arrangement kind) {
  const int vectors = weight_vectors(kind);
  const __m512i zero = _mm512_setzero_si512();
  const uf_row none = {zero, zero, zero, zero};
  uf_tile tile = {none, none, none, none, none, none};
  const int64_t bytes = product->square_bytes, row_bytes = row_pixels(kind) * bytes;
  const uint8_t *x0 = product->words, *x1 = rows > 1 ? x0 + row_bytes : x0, *x2 = rows > 2 ? x1 + row_bytes : x0;
  const uint8_t *x3 = rows > 3 ? x2 + row_bytes : x0, *x4 = rows > 4 ? x3 + row_bytes : x0;
  const uint8_t *x5 = rows > 5 ? x4 + row_bytes : x0;
  const __m512i *w = (const __m512i *)(const void *)product->weights;
  const int64_t end = product->steps * STEP_DEPTH * (int64_t)sizeof(int16_t);
  for (int64_t at = 0; at != end; at += STEP_DEPTH * (int64_t)sizeof(int16_t), w += vectors) {
    const uf_row weights = uf_load_row(w, vectors);
    for (int v = 0; v < vectors; ++v) _mm_prefetch((const char *)(w + vectors * product->steps + v), _MM_HINT_T0);
#define MULTIPLY_ROW(i) multiply_row(&tile.r##i, x##i + at, bytes, &weights, kind)
    UF_EACH_ROW(rows, MULTIPLY_ROW);
#undef MULTIPLY_ROW
  }
  __m512i *out = (__m512i *)(void *)product->sums;
#define STORE_ROW(i) uf_store_row(out + row_vectors(kind) * (i), &tile.r##i, row_vectors(kind))
  UF_EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
}

// So many tiles, one below the other.
UF_INLINE void multiply_tiles(const place_product *product, int64_t tiles, int rows, arrangement kind) {
  place_product own = *product;
  for (; tiles > 0; --tiles) {
    multiply(&own, rows, kind);
    own.words += rows * row_pixels(kind) * own.square_bytes;
    own.sums += rows * row_vectors(kind) * 16;
  }
}

#define DEFINE_MULTIPLY(rows, kind)                                                   \
  static void multiply_##rows##_##kind(const place_product *product, int64_t tiles) { \
    multiply_tiles(product, tiles, rows, kind);                                       \
  }
#define DEFINE_KIND(kind)  \
  DEFINE_MULTIPLY(1, kind) \
  DEFINE_MULTIPLY(2, kind) \
  DEFINE_MULTIPLY(3, kind) \
  DEFINE_MULTIPLY(4, kind) \
  DEFINE_MULTIPLY(5, kind) \
  DEFINE_MULTIPLY(6, kind)
DEFINE_KIND(CHANNELS_32)
DEFINE_KIND(CHANNELS_48)
DEFINE_KIND(CHANNELS_64)
#undef DEFINE_KIND
#undef DEFINE_MULTIPLY

#define KIND(kind)                                                   \
  [kind] = {multiply_1_##kind, multiply_2_##kind, multiply_3_##kind, \
            multiply_4_##kind, multiply_5_##kind, multiply_6_##kind}
static void (*const kMultiply[ARRANGEMENTS][UF_TILE_ROWS])(const place_product *, int64_t) = {
    KIND(CHANNELS_32), KIND(CHANNELS_48), KIND(CHANNELS_64)};
#undef KIND

static void multiply_places(const squares_task *task, const uf_block *block) {
  const winograd_plan *plan = task->plan;
  const arrangement kind = kind_of(plan);
  const uf_tiling tiles = uf_tiles_of(uf_divide_up(task->count, row_pixels(kind)), UF_TILE_ROWS);
  const int64_t done = tiles.greater * (tiles.least + 1) * row_pixels(kind);
  place_product product = {.square_bytes = plan->square_bytes,
                           .steps = plan->depth / STEP_DEPTH,
                           .weights = (const int16_t *)(const void *)(block + 1)};
  for (int64_t place = 0; place < PLACES; ++place, product.weights += plan->depth * plan->block_channels) {
    product.words = task->words + place * plan->stride * plan->square_bytes;
    product.sums = task->sums + place * plan->stride * plan->block_channels;
    if (tiles.greater > 0) kMultiply[kind][tiles.least](&product, tiles.greater);
    product.words += done * plan->square_bytes;
    product.sums += done * plan->block_channels;
    kMultiply[kind][tiles.least - 1](&product, tiles.lesser);
  }
}

// --- Outputs. ---

// The sums of a row of a square's outputs, pixel by pixel, with what they start from.
UF_INLINE uf_row started_row(const __m512i *sums, const uf_row *start, arrangement kind) {
  const uf_row row = {_mm512_add_epi32(sums[0], start->v0), _mm512_add_epi32(sums[1], start->v1),
                      _mm512_add_epi32(sums[2], start->v2),
                      row_vectors(kind) > 3 ? _mm512_add_epi32(sums[3], start->v3) : start->v3};
  return row;
}

// A row of a square's outputs, or, where it lies over the image's edge and pixels have rows of their own, one of them.
UF_INLINE void store_outputs(const __m512i *sums, const uf_block *block, destination *to, int rows, arrangement kind) {
  const uf_row start = uf_load_row(block->start, row_vectors(kind));
  uf_tile tile = {start, start, start, start, start, start};
#define START_ROW(i) tile.r##i = started_row(sums + row_vectors(kind) * (i), &start, kind)
  UF_EACH_ROW(rows, START_ROW);
#undef START_ROW
  finish_tile(&tile, block, to, rows, kind);
}

UF_INLINE void store_square(const squares_task *task, const uf_block *block, int64_t square, int64_t channel,
                            arrangement kind) {
  const winograd_plan *plan = task->plan;
  const uf_tensor *image = plan->output;
  const int vectors = weight_vectors(kind), rows = OUTPUTS / row_pixels(kind);
  const square_place place = task->places[square];
  const int32_t *sums = task->sums + square * plan->block_channels;
  __m512i all[OUTPUTS][OUTPUTS * UF_TILE_VECTORS];
  for (int v = 0; v < vectors; ++v) {
    __m512i outputs[OUTPUTS][OUTPUTS];
    gather_outputs(sums + 16 * v, plan->stride * plan->block_channels, outputs);
    for (int i = 0; i < OUTPUTS; ++i) {
      for (int j = 0; j < OUTPUTS; ++j) all[i][j * vectors + v] = outputs[i][j];
    }
  }
  const int64_t left = image->shape[2] - place.column;
  for (int32_t i = 0; i < OUTPUTS && place.row + i < image->shape[1]; ++i) {
    const int64_t pixel = (place.sample * image->shape[1] + place.row + i) * image->shape[2] + place.column;
    destination to = {image->data + pixel * plan->channels + channel, plan->channels, plan->channels - channel,
                      left < OUTPUTS ? left : OUTPUTS};
    if (to.channels > plan->block_channels) to.channels = plan->block_channels;
    if (left >= OUTPUTS || row_pixels(kind) > 1) {
      store_outputs(all[i], block, &to, rows, kind);
    } else {
      for (int64_t j = 0; j < left; ++j) store_outputs(all[i] + vectors * j, block, &to, 1, kind);
    }
  }
}

#define DEFINE_STORE(kind)                                                                             \
  static void store_squares_##kind(const squares_task *task, const uf_block *block, int64_t channel) { \
    for (int64_t i = 0; i < task->count; ++i) store_square(task, block, i, channel, kind);             \
  }
DEFINE_STORE(CHANNELS_32)
DEFINE_STORE(CHANNELS_48)
DEFINE_STORE(CHANNELS_64)
#undef DEFINE_STORE

static void run_block(const squares_task *task, const uf_block *block, int64_t channel) {
  static void (*const store[ARRANGEMENTS])(const squares_task *, const uf_block *, int64_t) = {
      [CHANNELS_32] = store_squares_CHANNELS_32,
      [CHANNELS_48] = store_squares_CHANNELS_48,
      [CHANNELS_64] = store_squares_CHANNELS_64};
  multiply_places(task, block);
  store[kind_of(task->plan)](task, block, channel);
}

#include "winograd_run.h"

const uf_kernel conv2d__avx512vnni_winograd = {
    .name = "conv2d__avx512vnni_winograd",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
    .leads = true,
};
