// Winograd's form of a convolution (winograd.h) with vectors of 256 bits (C11, AVX2), whose products of bytes are made
// of words anyway.

#include "../gemm/each_row.h"
#include "../gemm/row256.h"

enum {
  TILE_ROWS = 6,
  MOST_BLOCK_CHANNELS = UF_BLOCK_CHANNELS,
  MOST_WEIGHTS = 1 << 16,
  LEAST_CHANNELS = 16,
  WORDS_COST = 1,
  SPARE_SQUARES = 0,
};

typedef uf_block16 block_type;
typedef __m256i sums_type;
#define SUMS(name) _mm256_##name

UF_INLINE __m256i load_sums(const int32_t *sums) { return _mm256_load_si256((const __m256i *)(const void *)sums); }

#include "winograd.h"

static int weight_lane(const winograd_plan *plan, int channel) {
  (void)plan;
  return channel_lane(channel);
}

static void pack_constants(const uf_linear *linear, int64_t first, int count, const uf_weight_sums *sums,
                           const winograd_plan *plan, uf_block16 *block) {
  (void)plan;
  uf_pack_block16(linear, first, count, sums, 0, lane_channel, block);
}

// --- Products. ---

// Sums of up to 6 squares with a block at a place.
typedef struct {
  const uint8_t *words;  // of the first square
  int64_t square_bytes, steps;
  const int16_t *weights;
  int32_t *sums;  // [squares][16]
} place_product;

// The weights of the next place follow these, and are fetched meanwhile.
UF_INLINE void multiply(const place_product *product, int rows) {
  const row_type none = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  row_type r0 = none, r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0;
  const int64_t bytes = product->square_bytes;
  const uint8_t *x0 = product->words, *x1 = rows > 1 ? x0 + bytes : x0, *x2 = rows > 2 ? x1 + bytes : x0;
  const uint8_t *x3 = rows > 3 ? x2 + bytes : x0, *x4 = rows > 4 ? x3 + bytes : x0, *x5 = rows > 5 ? x4 + bytes : x0;
  const __m256i *w = (const __m256i *)(const void *)product->weights;
  const int64_t end = product->steps * STEP_DEPTH * (int64_t)sizeof(int16_t);
  for (int64_t at = 0; at != end; at += STEP_DEPTH * (int64_t)sizeof(int16_t), w += 2) {
    const row_type weights = {_mm256_load_si256(w), _mm256_load_si256(w + 1)};
    _mm_prefetch((const char *)(w + 2 * product->steps), _MM_HINT_T0);
#define MULTIPLY_ROW(i)                               \
  do {                                                \
    const __m256i inputs = broadcast4(x##i + at);     \
    r##i.v0 = add_pairs(r##i.v0, inputs, weights.v0); \
    r##i.v1 = add_pairs(r##i.v1, inputs, weights.v1); \
    NEXT_ROW(at, r##i, false);                        \
  } while (0)
    EACH_ROW(rows, MULTIPLY_ROW);
#undef MULTIPLY_ROW
  }
  __m256i *out = (__m256i *)(void *)product->sums;
#define STORE_ROW(i)                                \
  do {                                              \
    _mm256_store_si256(out + 2 * (i), r##i.v0);     \
    _mm256_store_si256(out + 2 * (i) + 1, r##i.v1); \
  } while (0)
  EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
}

// So many tiles, one below the other.
UF_INLINE void multiply_tiles(const place_product *product, int64_t tiles, int rows) {
  place_product own = *product;
  for (; tiles > 0; --tiles) {
    multiply(&own, rows);
    own.words += rows * own.square_bytes;
    own.sums += rows * UF_BLOCK_CHANNELS;
  }
}

#define DEFINE_MULTIPLY(rows) \
  static void multiply_##rows(const place_product *product, int64_t tiles) { multiply_tiles(product, tiles, rows); }
DEFINE_MULTIPLY(1)
DEFINE_MULTIPLY(2)
DEFINE_MULTIPLY(3)
DEFINE_MULTIPLY(4)
DEFINE_MULTIPLY(5)
DEFINE_MULTIPLY(6)
#undef DEFINE_MULTIPLY

static void (*const kMultiply[TILE_ROWS])(const place_product *, int64_t) = {multiply_1, multiply_2, multiply_3,
                                                                             multiply_4, multiply_5, multiply_6};

static void multiply_places(const squares_task *task, const uf_block16 *block) {
  const winograd_plan *plan = task->plan;
  const uf_tiling tiles = uf_tiles_of(task->count, TILE_ROWS);
  const int64_t done = tiles.greater * (tiles.least + 1);
  place_product product = {.square_bytes = plan->square_bytes,
                           .steps = plan->depth / STEP_DEPTH,
                           .weights = (const int16_t *)(const void *)(block + 1)};
  for (int64_t place = 0; place < PLACES; ++place, product.weights += plan->depth * UF_BLOCK_CHANNELS) {
    product.words = task->words + place * plan->stride * plan->square_bytes;
    product.sums = task->sums + place * plan->stride * UF_BLOCK_CHANNELS;
    if (tiles.greater > 0) kMultiply[tiles.least](&product, tiles.greater);
    product.words += done * plan->square_bytes;
    product.sums += done * UF_BLOCK_CHANNELS;
    kMultiply[tiles.least - 1](&product, tiles.lesser);
  }
}

// --- Outputs. ---

UF_INLINE void store_squares(const squares_task *task, const uf_block16 *block, int64_t channel, uf_form form) {
  const winograd_plan *plan = task->plan;
  const uf_tensor *image = plan->output;
  for (int64_t i = 0; i < task->count; ++i) {
    const square_place place = task->places[i];
    const int32_t *sums = task->sums + i * UF_BLOCK_CHANNELS;
    __m256i first[OUTPUTS][OUTPUTS], second[OUTPUTS][OUTPUTS];
    gather_outputs(sums, plan->stride * UF_BLOCK_CHANNELS, first);
    gather_outputs(sums + UF_LANES, plan->stride * UF_BLOCK_CHANNELS, second);
    for (int32_t row = place.row; row < place.row + OUTPUTS && row < image->shape[1]; ++row) {
      for (int32_t column = place.column; column < place.column + OUTPUTS && column < image->shape[2]; ++column) {
        const int64_t pixel = (place.sample * image->shape[1] + row) * image->shape[2] + column;
        const row_type sum = {uf_started(first[row - place.row][column - place.column], block, 0),
                              uf_started(second[row - place.row][column - place.column], block, 1)};
        uf_store_first(image->data + pixel * plan->channels + channel,
                       uf_clamped(form, row_bytes(&sum, block, form), block), plan->channels - channel);
      }
    }
  }
}

static void run_block(const squares_task *task, const uf_block16 *block, int64_t channel) {
  multiply_places(task, block);
  if (block->form == UF_ABSORBED) {
    store_squares(task, block, channel, UF_ABSORBED);
  } else if (block->form == UF_BENT) {
    store_squares(task, block, channel, UF_BENT);
  } else {
    store_squares(task, block, channel, block->form);
  }
}

#include "winograd_run.h"

const uf_kernel conv2d__avx2_winograd = {
    .name = "conv2d__avx2_winograd",
    .level = UF_AVX2,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
    .leads = true,
};
