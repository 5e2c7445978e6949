// Indirect matrix product on packed weights (see gemm.h). A packed block is a uf_block and its weights
// [taps][depth / 4][lanes][4], depth padded with zeros to a multiple of 4.

#include "rows_avx512.h"

static int64_t steps(const uf_gemm_shape *shape) { return uf_divide_up(shape->depth, 4); }

static size_t weights_size(const uf_gemm_shape *shape, arrangement kind) {
  return (size_t)(shape->taps * steps(shape) * weight_vectors(kind)) * UF_ALIGNMENT;
}

static size_t block_offset(const uf_gemm_shape *shape, int64_t block) {
  return (size_t)block * (sizeof(uf_block) + weights_size(shape, CHANNELS_64));
}

static size_t packed_size(const uf_gemm_shape *shape) {
  const int64_t last = uf_gemm_blocks(&uf_gemm__avx512vnni, shape) - 1;
  return block_offset(shape, last) + sizeof(uf_block) + weights_size(shape, block_arrangement(shape, last));
}

// --- Packing. ---

// One channel's weights into its lane, four at a time; `packed` is zeroed.
static void pack_lane(const int8_t *weight, const uf_gemm_shape *shape, int lane, int lanes, int8_t *packed) {
  const int64_t whole = shape->depth / 4, rest = shape->depth % 4, step_bytes = (int64_t)lanes * 4;
  int8_t *out = packed + (int64_t)lane * 4;
  const int8_t *from = weight;
  for (int64_t tap = 0; tap < shape->taps; ++tap) {
    for (int64_t step = 0; step < whole; ++step, from += 4, out += step_bytes) memcpy(out, from, 4);
    if (rest == 0) continue;
    memcpy(out, from, (size_t)rest);
    from += rest;
    out += step_bytes;
  }
}

static void pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < uf_gemm_blocks(&uf_gemm__avx512vnni, shape); ++block) {
    const arrangement kind = block_arrangement(shape, block);
    uint8_t *place = (uint8_t *)packed + block_offset(shape, block);
    pack_block(linear, shape, first, block, kind, pack_lane, place);
  }
}

// --- The kernel. ---

typedef struct {
  const uf_block *block;
  const uint8_t *const *table;
  int64_t table_stride, table_offset;
  const uint8_t *even;
  int64_t tap_stride, run_stride;
  int64_t taps, steps;
  const uint8_t *ahead, *ahead_end;  // weights that are read soon
  destination to;
} tile_task;

// One step of a row, whose pixels' runs are at x[0], x[1], ...
UF_INLINE void dot_row(uf_row *acc, const uint8_t *const *x, int64_t at, const uf_row *weights, arrangement kind) {
  const __m512i a = uf_broadcast4(x[0] + at), b = row_pixels(kind) > 1 ? uf_broadcast4(x[1] + at) : a;
  if (kind == CHANNELS_16) {
    const __m512i c = uf_broadcast4(x[2] + at), d = uf_broadcast4(x[3] + at);
    uf_dot4_row(acc, a, weights->v0, b, weights->v0, c, weights->v0, d, weights->v0);
  } else if (kind == CHANNELS_24) {
    const __m512i own = uf_own(b);  // not to be loaded again into a copy of `a`
    uf_dot4_3(&acc->v0, &acc->v1, &acc->v2, a, weights->v0, _mm512_mask_blend_epi32(0xff00, a, own), weights->v1, own,
              weights->v0);
  } else if (kind == CHANNELS_32) {
    uf_dot4_row(acc, a, weights->v0, a, weights->v1, b, weights->v0, b, weights->v1);
  } else if (kind == CHANNELS_48) {
    uf_dot4_3(&acc->v0, &acc->v1, &acc->v2, a, weights->v0, a, weights->v1, a, weights->v2);
  } else {
    uf_dot4_row(acc, a, weights->v0, a, weights->v1, a, weights->v2, a, weights->v3);
  }
}

// A line a step is fetched into the second cache, a whole block in its first few tiles.
UF_INLINE void fetch(const uint8_t **ahead) {
  _mm_prefetch((const char *)*ahead, _MM_HINT_T1);
  *ahead += UF_ALIGNMENT;
}

// One tap's steps, with a pointer for each pixel.
UF_INLINE void dot_tap(uf_tile *tile, const uint8_t *const *x, int64_t at, int64_t end, const int8_t *w,
                       const uint8_t *ahead, int rows, arrangement kind) {
  const int pixels = row_pixels(kind), vectors = weight_vectors(kind);
  do {  // there is a step; a loop that said otherwise would make gcc 12 copy accumulators
    const uf_row weights = uf_load_row(w, vectors);
    // More than 6 pointers are better loaded in every step.
    if (pixels > 1 || kind == CHANNELS_48) x = uf_own_pointer(x);
#define DOT_ROW(i) dot_row(&tile->r##i, x + i * pixels, at, &weights, kind)
    UF_EACH_ROW(rows, DOT_ROW);
#undef DOT_ROW
    fetch(&ahead);
    w += UF_ALIGNMENT * vectors;
    at += 4;
  } while (at != end);
}

// The same where pixels' runs are `stride` apart: the first row's pointers and the rows' distances fit the registers.
UF_INLINE void dot_even_tap(uf_tile *tile, const uint8_t *run, int64_t count, int64_t stride, const int8_t *w,
                            const uint8_t *ahead, int rows, arrangement kind) {
  const int pixels = row_pixels(kind), vectors = weight_vectors(kind);
  const int64_t row_stride = pixels * stride;
  const uint8_t *second = run + stride, *third = second + stride, *fourth = third + stride;
  const uint8_t *const end = run + 4 * count;
  do {
    const uf_row weights = uf_load_row(w, vectors);
#define DOT_ROW(i)                                                                           \
  do {                                                                                       \
    const int64_t below = i * row_stride;                                                    \
    const uint8_t *const x[] = {run + below, second + below, third + below, fourth + below}; \
    dot_row(&tile->r##i, x, 0, &weights, kind);                                              \
  } while (0)
    UF_EACH_ROW(rows, DOT_ROW);
#undef DOT_ROW
    fetch(&ahead);
    w += UF_ALIGNMENT * vectors;
    run += 4, second += 4, third += 4, fourth += 4;
  } while (run != end);
}

// Runs `tiles` tiles of so many rows, one below the other; the task is left at what follows them.
UF_INLINE void run_tiles(tile_task *task, int64_t tiles, int rows, arrangement kind, bool even) {
  tile_task own = *task;  // which no store can change
  const int pixels = row_pixels(kind), vectors = weight_vectors(kind);
  const uf_block *block = own.block;
  do {
    const int8_t *w = (const int8_t *)(block + 1);
    const uint8_t *const *x = own.table;
    const uint8_t *run = own.even;
    uf_tile tile = uf_start_tile(block, row_vectors(kind));
    int64_t taps = own.taps;
    do {  // there is a tap
      if (even) {
        dot_even_tap(&tile, run, own.steps, own.run_stride, w, own.ahead, rows, kind);
        run += own.tap_stride;
      } else {
        dot_tap(&tile, x, own.table_offset, own.table_offset + 4 * own.steps, w, own.ahead, rows, kind);
        x += own.table_stride;
      }
      w += own.steps * UF_ALIGNMENT * vectors;
      if (own.ahead < own.ahead_end) own.ahead += own.steps * UF_ALIGNMENT;
    } while (--taps != 0);
    finish_tile(&tile, block, &own.to, rows, kind);
    if (even) {
      own.even += rows * pixels * own.run_stride;
    } else {
      own.table += rows * pixels;
    }
  } while (--tiles != 0);
  *task = own;
}

// --- Half tiles in turns. ---
//
// Where rows are shallow, rescaling a tile takes about as long as its dot products, and the core looks too few
// instructions ahead to begin the next tile's meanwhile: of its four vector units the two that multiply wait, then the
// other two. So two half tiles take turns, and what rescales one of them stands between the other's dot products.

enum { HALF_ROWS = 3, LEAST_STEPS = UF_TILE_VECTORS, MOST_STEPS = 32 };

static bool takes_turns(const uf_gemm *gemm, const uf_block *block) {
  const int64_t all = gemm->shape.taps * steps(&gemm->shape);
  return gemm->even != NULL && LEAST_STEPS <= all && all <= MOST_STEPS && block->form <= UF_BENT;
}

UF_INLINE void dot_half(uf_tile *half, const uint8_t *run, int64_t stride, const int8_t *w, arrangement kind) {
  const uf_row weights = uf_load_row(w, weight_vectors(kind));
#define DOT_ROW(i)                                                                              \
  do {                                                                                          \
    const uint8_t *first = run + i * row_pixels(kind) * stride;                                 \
    const uint8_t *const x[] = {first, first + stride, first + 2 * stride, first + 3 * stride}; \
    dot_row(&half->r##i, x, 0, &weights, kind);                                                 \
  } while (0)
  UF_EACH_ROW(HALF_ROWS, DOT_ROW);
#undef DOT_ROW
}

// The next half tile's sums; those of the half tile before it, if there is one, become bytes. A step's bytes are found
// by its offset from a pixel's first run.
UF_INLINE void run_turn(tile_task *task, const int64_t *offsets, int64_t count, uf_tile *half, uf_tile *before,
                        arrangement kind, uf_form form) {
  const int64_t step_bytes = UF_ALIGNMENT * weight_vectors(kind);
  const int8_t *w = (const int8_t *)(task->block + 1);
  *half = uf_start_tile(task->block, row_vectors(kind));
  for (int s = 0; s < LEAST_STEPS; ++s, w += step_bytes) {
    dot_half(half, task->even + offsets[s], task->run_stride, w, kind);
    if (before != NULL && s < row_vectors(kind)) uf_rescale_column(before, task->block, s, HALF_ROWS, form);
  }
  for (int64_t s = LEAST_STEPS; s < count; ++s, w += step_bytes) {
    dot_half(half, task->even + offsets[s], task->run_stride, w, kind);
  }
  if (before != NULL) store_tile(&task->to, before, task->block, HALF_ROWS, kind, form);
  task->even += HALF_ROWS * row_pixels(kind) * task->run_stride;
}

// Runs an even number of half tiles; the task is left at what follows them.
UF_INLINE void run_turns(tile_task *task, int64_t halves, arrangement kind, uf_form form) {
  const int64_t count = task->taps * task->steps;
  int64_t offsets[MOST_STEPS];
  for (int64_t s = 0; s < count; ++s) offsets[s] = s / task->steps * task->tap_stride + 4 * (s % task->steps);
  tile_task own = *task;  // which no store can change
  uf_tile a, b;
  run_turn(&own, offsets, count, &a, NULL, kind, form);
  for (; halves > 2; halves -= 2) {
    run_turn(&own, offsets, count, &b, &a, kind, form);
    run_turn(&own, offsets, count, &a, &b, kind, form);
  }
  run_turn(&own, offsets, count, &b, &a, kind, form);
  finish_tile(&b, own.block, &own.to, HALF_ROWS, kind);
  *task = own;
}

// clang-format off
#define TILE(rows, channels) \
  static void run_tiles_##rows##x##channels(tile_task *task, int64_t tiles) { \
    run_tiles(task, tiles, rows, CHANNELS_##channels, false); \
  }
#define EVEN_TILE(rows, channels) \
  static void run_tiles_even_##rows##x##channels(tile_task *task, int64_t tiles) { \
    run_tiles(task, tiles, rows, CHANNELS_##channels, true); \
  }
#define TURNS(channels) \
  static void run_turns_##channels(tile_task *task, int64_t halves) { \
    run_turns(task, halves, CHANNELS_##channels, UF_ABSORBED); \
  } \
  static void run_bent_turns_##channels(tile_task *task, int64_t halves) { \
    run_turns(task, halves, CHANNELS_##channels, UF_BENT); \
  }
#define TILES(rows) \
  TILE(rows, 16) TILE(rows, 24) TILE(rows, 32) TILE(rows, 48) TILE(rows, 64) \
  EVEN_TILE(rows, 16) EVEN_TILE(rows, 24) EVEN_TILE(rows, 32) EVEN_TILE(rows, 48) EVEN_TILE(rows, 64)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
TURNS(16) TURNS(24) TURNS(32) TURNS(48) TURNS(64)

typedef void (*tiles_function)(tile_task *task, int64_t tiles);

#define NAMES(name) {name##16, name##24, name##32, name##48, name##64}
static const tiles_function kTiles[UF_TILE_ROWS][ARRANGEMENTS] = {
  NAMES(run_tiles_1x), NAMES(run_tiles_2x), NAMES(run_tiles_3x),
  NAMES(run_tiles_4x), NAMES(run_tiles_5x), NAMES(run_tiles_6x)};
static const tiles_function kEvenTiles[UF_TILE_ROWS][ARRANGEMENTS] = {
  NAMES(run_tiles_even_1x), NAMES(run_tiles_even_2x), NAMES(run_tiles_even_3x),
  NAMES(run_tiles_even_4x), NAMES(run_tiles_even_5x), NAMES(run_tiles_even_6x)};
static const tiles_function kTurns[ARRANGEMENTS] = NAMES(run_turns_), kBentTurns[ARRANGEMENTS] = NAMES(run_bent_turns_);
// clang-format on

// All pixels of a block: as many as can be in turns, the others in tiles.
static void run_block(const uf_gemm *gemm, int64_t block) {
  const uf_gemm_shape *shape = &gemm->shape;
  const int64_t channel = block * UF_TILE_CHANNELS;
  const arrangement kind = block_arrangement(shape, block);
  const uint8_t *packed = gemm->packed + block_offset(shape, block);
  const uint8_t *ahead = gemm->ahead == NULL ? packed : gemm->ahead + block_offset(shape, block);
  tile_task task = {
      .block = (const uf_block *)packed,
      .table = gemm->table,
      .table_stride = gemm->table_stride,
      .table_offset = gemm->table_offset,
      .even = gemm->even == NULL ? NULL : gemm->even + gemm->table_offset,
      .tap_stride = gemm->tap_stride,
      .run_stride = gemm->run_stride,
      .taps = shape->taps,
      .steps = steps(shape),
      .ahead = ahead,
      .ahead_end = ahead + (gemm->ahead == NULL ? 0 : sizeof(uf_block) + weights_size(shape, kind)),
      .to = {gemm->out + channel, gemm->out_stride, shape->channels - channel, gemm->rows},
  };
  int64_t rows = uf_divide_up(gemm->rows, row_pixels(kind));
  const int64_t pairs = takes_turns(gemm, task.block) ? rows / (2 * HALF_ROWS) : 0;
  if (pairs > 0) (task.block->form == UF_BENT ? kBentTurns : kTurns)[kind](&task, 2 * pairs);
  rows -= pairs * 2 * HALF_ROWS;
  if (rows == 0) return;
  const uf_tiling tiles = uf_tiles_of(rows, UF_TILE_ROWS);
  const tiles_function(*functions)[ARRANGEMENTS] = gemm->even != NULL ? kEvenTiles : kTiles;
  if (tiles.greater > 0) functions[tiles.least][kind](&task, tiles.greater);
  functions[tiles.least - 1][kind](&task, tiles.lesser);
}

static void run(const uf_gemm *gemm, uf_range range) {
  for (int64_t block = range.begin; block < range.end; ++block) run_block(gemm, block);
}

const uf_gemm_level uf_gemm__avx512vnni = {
    .least_weight = INT8_MIN,
    .greatest_weight = INT8_MAX,
    .takes_even = true,
    .block_channels = UF_TILE_CHANNELS,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
