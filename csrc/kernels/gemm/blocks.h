// The matrix product of gemm.h by blocks of 16 channels, whatever the vectors (C11). The file that includes it has said
// how it multiplies:
//
//   UF_GEMM             the level's name
//   STEP_DEPTH          weights of a channel in a step: 4, which meet four bytes, or 2, which meet two words
//   STEP_INPUT_BYTES    of a row in a step
//   UF_WIDENS           defined where inputs are multiplied as words; with widen_run
//   UF_PAIRS            defined where a row's words have a term of their own before them, and a block's weights too:
//                       with write_term and subtract_terms
//   weight_place        (channel, k, half) -> where in a step a weight lies: behind that of k - 1, if k is odd
//   lane_channel, half_lane_channel  (vector, lane) -> the channel whose sum is rescaled there
//   LOWERED             what bytes are lowered by before they are multiplied: 0, or 128 to become signed
//   LEAST_WEIGHT        -128, or -127
//   TILE_ROWS           rows that are computed together, at most 6
//   row_type, weights_type, start_row, load_weights, dot_row, row_bytes, half_row_bytes
//   BEGIN_ROW           (accumulator, inputs) a statement before the first step
//   NEXT_ROW            (at, accumulator, half) a statement between rows
//   WIDE_STEPS          4, or undefined: a vector of inputs serves so many steps; with input_type, load_wide, DOT_STEP,
//                       FOLLOWING
//
// A last block of at most 8 channels is a half one: the second half of its lanes is not computed.
//
// A packed block is a uf_block16 and its weights [taps][steps][16 * STEP_DEPTH], depth padded with zeros; blocks begin
// at multiples of UF_ALIGNMENT.

#include "each_row.h"

enum { STEP_BYTES = UF_BLOCK_CHANNELS * STEP_DEPTH };

static int64_t steps(const uf_gemm_shape *shape) { return uf_divide_up(shape->depth, STEP_DEPTH); }

static size_t block_size(const uf_gemm_shape *shape) {
  return sizeof(uf_block16) +
         (size_t)uf_divide_up(shape->taps * steps(shape) * STEP_BYTES, UF_ALIGNMENT) * UF_ALIGNMENT;
}

static size_t packed_size(const uf_gemm_shape *shape) {
  return (size_t)uf_gemm_blocks(&UF_GEMM, shape) * block_size(shape);
}

static bool is_half(int64_t channels) { return channels <= UF_BLOCK_CHANNELS / 2; }

// --- Packing. ---

// One channel's weights, a step's at a time and two by two; `packed` is zeroed.
static void pack_channel(const int8_t *weight, const uf_gemm_shape *shape, int channel, bool half, int8_t *packed) {
  const int64_t whole = shape->depth / STEP_DEPTH, rest = shape->depth % STEP_DEPTH;
  int places[STEP_DEPTH];
  for (int k = 0; k < STEP_DEPTH; ++k) places[k] = weight_place(channel, k, half);
  for (int64_t tap = 0; tap < shape->taps; ++tap) {
    for (int64_t step = 0; step < whole; ++step, weight += STEP_DEPTH, packed += STEP_BYTES) {
      for (int k = 0; k < STEP_DEPTH; k += 2) memcpy(packed + places[k], weight + k, 2);
    }
    if (rest == 0) continue;
    for (int k = 0; k < rest; ++k) packed[places[k]] = weight[k];
    weight += rest;
    packed += STEP_BYTES;
  }
}

static void pack_block(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, int64_t block,
                       uint8_t *packed) {
  uf_weight_sums sums[UF_BLOCK_CHANNELS];
  const int64_t begin = first + block * UF_BLOCK_CHANNELS, left = shape->channels - block * UF_BLOCK_CHANNELS;
  const int count = left < UF_BLOCK_CHANNELS ? (int)left : UF_BLOCK_CHANNELS;
  for (int c = 0; c < count; ++c) {
    const int64_t length = shape->taps * shape->depth;
    const int8_t *weight = linear->weight + (begin + c) * length;
    pack_channel(weight, shape, c, is_half(count), (int8_t *)(packed + sizeof(uf_block16)));
    sums[c] = uf_sum_weights(weight, length, 1);
  }
  int (*const channel_of_lane)(int, int) = is_half(count) ? half_lane_channel : lane_channel;
  uf_pack_block16(linear, begin, count, sums, LOWERED, channel_of_lane, (uf_block16 *)packed);
#ifdef UF_PAIRS
  subtract_terms(shape->taps * steps(shape), (uf_block16 *)packed);
#endif
}

static void pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < uf_gemm_blocks(&UF_GEMM, shape); ++block) {
    pack_block(linear, shape, first, block, (uint8_t *)packed + (size_t)block * block_size(shape));
  }
}

// --- Running. Structs of named vectors and constant conditions: gcc keeps these in registers, and not arrays. ---

typedef struct {
  const uf_block16 *block;
  const uint8_t *const *table;
  int64_t table_stride, table_offset;
  int64_t taps, steps;
  uint8_t *out;
  int64_t out_stride, channels;  // channels to be stored
} tile_task;

UF_INLINE void run_tile(const tile_task *task, int rows, uf_form form, bool half) {
  row_type r0 = start_row(task->block), r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0;
  const uint8_t *w = (const uint8_t *)(task->block + 1);
  const uint8_t *const *x = task->table;
#define BEGIN(i) BEGIN_ROW(&r##i, x[i] + task->table_offset)
  EACH_ROW(rows, BEGIN);
#undef BEGIN
  for (int64_t tap = 0; tap < task->taps; ++tap, x += task->table_stride) {
    int64_t at = task->table_offset;
    const int64_t end = at + STEP_INPUT_BYTES * task->steps;
#ifdef WIDE_STEPS
    for (; end - at >= STEP_INPUT_BYTES * WIDE_STEPS; at += STEP_INPUT_BYTES * WIDE_STEPS) {
#define LOAD_WIDE(i) x##i = load_wide(x[i] + at)
#define DOT_WIDE_0(i) DOT_STEP(&r##i, x##i, &weights, 0, half)
#define DOT_WIDE_1(i) DOT_STEP(&r##i, x##i, &weights, 1, half)
#define DOT_WIDE_2(i) DOT_STEP(&r##i, x##i, &weights, 2, half)
#define DOT_WIDE_3(i) DOT_STEP(&r##i, x##i, &weights, 3, half)
#define WIDE_STEP(step)                       \
  do {                                        \
    const row_type weights = load_weights(w); \
    EACH_ROW(rows, DOT_WIDE_##step);          \
    w = FOLLOWING(w + STEP_BYTES, r0.v1);     \
  } while (0)
      input_type x0, x1, x2, x3, x4, x5;
      EACH_ROW(rows, LOAD_WIDE);
      WIDE_STEP(0);
      WIDE_STEP(1);
      WIDE_STEP(2);
      WIDE_STEP(3);
    }
#endif
    for (; at != end; at += STEP_INPUT_BYTES, w += STEP_BYTES) {
      const weights_type weights = load_weights(w);
#define DOT_ROW(i)                             \
  do {                                         \
    dot_row(&r##i, x[i] + at, &weights, half); \
    NEXT_ROW(at, r##i, half);                  \
  } while (0)
      EACH_ROW(rows, DOT_ROW);
#undef DOT_ROW
    }
  }
#define STORE_ROW(i)                                                                                              \
  do {                                                                                                            \
    const uf_bytes bytes = half ? half_row_bytes(&r##i, task->block, form) : row_bytes(&r##i, task->block, form); \
    uf_store_first(task->out + (i) * task->out_stride, uf_clamped(form, bytes, task->block), task->channels);     \
  } while (0)
  EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
}

// Runs `tiles` tiles, one below the other, in one loop: a call takes as long as a few steps.
UF_INLINE void run_tiles(const tile_task *task, int64_t tiles, int rows, uf_form form, bool half) {
  tile_task own = *task;  // which no store of bytes can change
  do {
    run_tile(&own, rows, form, half);
    own.table += rows;
    own.out += rows * own.out_stride;
  } while (--tiles != 0);
}

#define TILES(name, rows, form, half) \
  static void name##_##rows(const tile_task *task, int64_t tiles) { run_tiles(task, tiles, rows, form, half); }
#define DEFINE_TILES(rows)                          \
  TILES(run_absorbed, rows, UF_ABSORBED, false)     \
  TILES(run_clamped, rows, UF_CLAMPED, false)       \
  TILES(run_bent, rows, UF_BENT, false)             \
  TILES(run_exact, rows, UF_EXACT, false)           \
  TILES(run_absorbed_half, rows, UF_ABSORBED, true) \
  TILES(run_other_half, rows, task->block->form, true)
DEFINE_TILES(1)
DEFINE_TILES(2)
DEFINE_TILES(3)
DEFINE_TILES(4)
DEFINE_TILES(5)
DEFINE_TILES(6)
#undef DEFINE_TILES
#undef TILES

typedef void (*tiles_runner)(const tile_task *task, int64_t tiles);

#define ALL_ROWS(name) {name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}

// Of half blocks or not, of a form and so many rows.
static const tiles_runner kRunners[2][UF_EXACT + 1][6] = {
    {[UF_ABSORBED] = ALL_ROWS(run_absorbed),
     [UF_CLAMPED] = ALL_ROWS(run_clamped),
     [UF_BENT] = ALL_ROWS(run_bent),
     [UF_EXACT] = ALL_ROWS(run_exact)},
    {[UF_ABSORBED] = ALL_ROWS(run_absorbed_half),
     [UF_CLAMPED] = ALL_ROWS(run_other_half),
     [UF_BENT] = ALL_ROWS(run_other_half),
     [UF_EXACT] = ALL_ROWS(run_other_half)},
};

// All rows of a block.
static void run_block(const uf_gemm *gemm, int64_t block) {
  const uf_gemm_shape *shape = &gemm->shape;
  const int64_t channel = block * UF_BLOCK_CHANNELS;
  tile_task task = {
      .block = (const uf_block16 *)(gemm->packed + (size_t)block * block_size(shape)),
      .table = gemm->table,
      .table_stride = gemm->table_stride,
      .table_offset = gemm->table_offset,
      .taps = shape->taps,
      .steps = steps(shape),
      .out = gemm->out + channel,
      .out_stride = gemm->out_stride,
      .channels = shape->channels - channel,
  };
  const tiles_runner *runners = kRunners[is_half(task.channels)][task.block->form];
  const uf_tiling tiles = uf_tiles_of(gemm->rows, TILE_ROWS);
  if (tiles.greater > 0) runners[tiles.least](&task, tiles.greater);
  const int64_t done = tiles.greater * (tiles.least + 1);
  task.table += done;
  task.out += done * task.out_stride;
  runners[tiles.least - 1](&task, tiles.lesser);
}

static void run_blocks(const uf_gemm *gemm, uf_range range) {
  for (int64_t block = range.begin; block < range.end; ++block) run_block(gemm, block);
}

#ifdef UF_WIDENS

// Bytes become words once for all blocks, in rows of one run that joins all taps, as many at a time as stay in the
// second cache.
enum { WIDENED_BYTES = 128 << 10, WIDENED_ROWS = 48 };

#ifdef UF_PAIRS
enum { TERM_BYTES = 8 };
#else
enum { TERM_BYTES = 0 };
#endif

static int64_t words_of_row(const uf_gemm_shape *shape) { return shape->taps * steps(shape) * STEP_DEPTH; }

// An odd number of cache lines, lest the rows of a tile share their places.
static int64_t widened_bytes(const uf_gemm_shape *shape) {
  const int64_t lines = uf_divide_up(TERM_BYTES + words_of_row(shape) * (int64_t)sizeof(int16_t), UF_ALIGNMENT);
  return (lines | 1) * UF_ALIGNMENT;
}

static int64_t widened_rows(const uf_gemm_shape *shape) {
  const int64_t rows = WIDENED_BYTES / widened_bytes(shape) / TILE_ROWS * TILE_ROWS;
  return rows < TILE_ROWS ? TILE_ROWS : rows > WIDENED_ROWS ? WIDENED_ROWS : rows;
}

// The rows and, behind them, pointers to them.
static size_t scratch_size(const uf_gemm_shape *shape) {
  const size_t pointers = WIDENED_ROWS * sizeof(uint8_t *);
  return (size_t)(widened_rows(shape) * widened_bytes(shape)) + pointers;
}

// Rows that are so many bytes apart.
static void widen_rows(const uf_gemm *gemm, uf_range rows, uint8_t *out, int64_t bytes) {
  const int64_t depth = gemm->shape.depth, taps = gemm->shape.taps, table_offset = gemm->table_offset;
  const int64_t run_bytes = steps(&gemm->shape) * STEP_DEPTH * (int64_t)sizeof(int16_t);
  for (int64_t tap = 0; tap < taps; ++tap) {
    const uint8_t *const *table = gemm->table + tap * gemm->table_stride;
    uint8_t *to = out + tap * run_bytes;
    for (int64_t row = rows.begin; row < rows.end; ++row, to += bytes) {
      widen_run(table[row] + table_offset, depth, (int16_t *)(void *)to);
    }
  }
#ifdef UF_PAIRS
  for (int64_t row = rows.begin; row < rows.end; ++row, out += bytes) {
    write_term((int16_t *)(void *)out, words_of_row(&gemm->shape));
  }
#endif
}

static void run(const uf_gemm *gemm, uf_range range) {
  if (range.begin == range.end) return;  // a thread too many
  if (gemm->words) {
    run_blocks(gemm, range);
    return;
  }
  const int64_t bytes = widened_bytes(&gemm->shape), most = widened_rows(&gemm->shape);
  const int64_t chunks = uf_divide_up(gemm->rows, most);
  const uint8_t **table = (const uint8_t **)(gemm->scratch + most * bytes);
  for (int64_t row = 0; row < most; ++row) table[row] = gemm->scratch + TERM_BYTES + row * bytes;
  uf_gemm words = *gemm;
  words.shape = (uf_gemm_shape){gemm->shape.channels, 1, words_of_row(&gemm->shape)};
  words.table = table;
  words.table_offset = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const uf_range rows = uf_share(gemm->rows, TILE_ROWS, (int)chunk, (int)chunks);
    words.rows = rows.end - rows.begin;
    words.out = gemm->out + rows.begin * gemm->out_stride;
    widen_rows(gemm, rows, gemm->scratch + TERM_BYTES, bytes);
    run_blocks(&words, range);
  }
}

#else

static void run(const uf_gemm *gemm, uf_range range) { run_blocks(gemm, range); }

#endif

const uf_gemm_level UF_GEMM = {
    .least_weight = LEAST_WEIGHT,
    .greatest_weight = INT8_MAX,
    .block_channels = UF_BLOCK_CHANNELS,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
#ifdef UF_WIDENS
    .scratch_size = scratch_size,
#endif
#ifdef UF_PAIRS
    .pays = pays,
#elif defined(UF_WIDENS)
    .widen = widen_run,
#endif
};
