// Indirect matrix product with AMX (see gemm.h): 32 rows by 32 outputs at a time, in four tiles of 16 by 16 sums, to
// which an instruction adds 64 products each in 16 cycles.
//
// A packed block is a uf_block and its weights [steps][vectors][16][16][4]: a step is 64 bytes of a row, whose runs are
// taken one behind the other and padded with zeros; a vector is 16 outputs.

#include "rows_avx512.h"

enum { GROUP = 32, GROUPS = 2, TILE_ROWS = 16, STEP = 64, TILE_BYTES = TILE_ROWS * UF_ALIGNMENT, TILES = 8 };

static int64_t row_bytes_of(const uf_gemm_shape *shape) { return shape->taps * shape->depth; }

static int64_t steps(const uf_gemm_shape *shape) { return uf_divide_up(row_bytes_of(shape), STEP); }

// 24 channels are two vectors here.
static arrangement arrangement_of(const uf_gemm_shape *shape, int64_t block) {
  const arrangement kind = block_arrangement(shape, block);
  return kind == CHANNELS_24 ? CHANNELS_32 : kind;
}

// In cycles of 32 rows: the level below adds 4 products to two vectors of sums a cycle. Tiles add 64 to half a vector,
// but rows of several runs are copied first, and sums pass through memory; the quarter more is for what is not counted.
static bool pays(const uf_gemm_shape *shape) {
  const int64_t vectors = uf_divide_up(shape->channels, 16), runs = shape->taps > 1 ? shape->taps : 0;
  const int64_t below = shape->taps * uf_divide_up(shape->depth, 4) * vectors / 2 * GROUP;
  const int64_t here = steps(shape) * vectors * GROUP + (4 * runs + 4 * vectors) * GROUP;
  return here + here / 4 < below;
}

static size_t weights_size(const uf_gemm_shape *shape, arrangement kind) {
  return (size_t)(steps(shape) * weight_vectors(kind)) * TILE_BYTES;
}

static size_t block_offset(const uf_gemm_shape *shape, int64_t block) {
  return (size_t)block * (sizeof(uf_block) + weights_size(shape, CHANNELS_64));
}

static size_t packed_size(const uf_gemm_shape *shape) {
  const int64_t last = uf_gemm_blocks(&uf_gemm__amx, shape) - 1;
  return block_offset(shape, last) + sizeof(uf_block) + weights_size(shape, arrangement_of(shape, last));
}

// --- Packing. ---

// One channel's weights: a column of its vector's tiles, four bytes a row.
static void pack_lane(const int8_t *weight, const uf_gemm_shape *shape, int lane, int lanes, int8_t *packed) {
  const int64_t length = row_bytes_of(shape), vectors = lanes / 16;
  int8_t *out = packed + lane / 16 * TILE_BYTES + lane % 16 * 4;
  for (int64_t at = 0; at < length; at += 4) {
    const int64_t step = at / STEP, row = at % STEP / 4, left = length - at;
    memcpy(out + step * vectors * TILE_BYTES + row * UF_ALIGNMENT, weight + at, (size_t)(left < 4 ? left : 4));
  }
}

static void pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < uf_gemm_blocks(&uf_gemm__amx, shape); ++block) {
    const arrangement kind = arrangement_of(shape, block);
    uint8_t *place = (uint8_t *)packed + block_offset(shape, block);
    pack_block(linear, shape, first, block, kind, pack_lane, place);
  }
}

// --- Tiles. ---

// Assembly, as gcc 12's own names do not say that they read memory. Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7
// weights.
#ifndef UF_LOAD_TILE
#define UF_LOAD_TILE(tile, from, stride) \
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #tile ::"r"(from), "r"((int64_t)(stride)) : "memory")
#define UF_STORE_TILE(tile, to, stride) \
  __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"((int64_t)(stride)) : "memory")
#define UF_MULTIPLY_TILES(sums, rows, weights) \
  __asm__ volatile("tdpbusd %%tmm" #weights ", %%tmm" #rows ", %%tmm" #sums ::: "memory")
#define UF_CONFIGURE_TILES(configuration) __asm__ volatile("ldtilecfg %0" ::"m"(configuration))
#define UF_RELEASE_TILES() __asm__ volatile("tilerelease" ::: "memory")
#endif

// What the instruction reads.
typedef struct {
  uint8_t palette, start, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
} tile_configuration;

static void configure(void) {
  tile_configuration all = {.palette = 1};
  for (int i = 0; i < TILES; ++i) {
    all.row_bytes[i] = UF_ALIGNMENT;
    all.rows[i] = TILE_ROWS;
  }
  UF_CONFIGURE_TILES(all);
}

// Rows of a group, and sums of theirs with the outputs of a block.
typedef struct {
  const uint8_t *rows;
  int64_t row_stride, steps;
  const int8_t *weights;
  const int32_t *start;
  int64_t vectors;  // of the block
  int32_t *sums;    // [GROUP][vectors][16]
} product;

// One vector of outputs or two; which, is a constant.
UF_INLINE void multiply(const product *p, int64_t vector, bool pair) {
  const int64_t below = TILE_ROWS * p->row_stride, weight_step = p->vectors * TILE_BYTES;
  const int64_t sums_stride = p->vectors * UF_ALIGNMENT;
  const int32_t *start = p->start + vector * 16;
  const int8_t *w = p->weights + vector * TILE_BYTES;
  const uint8_t *x = p->rows;
  int32_t *sums = p->sums + vector * 16, *sums_below = sums + TILE_ROWS * p->vectors * 16;
  UF_LOAD_TILE(0, start, 0);  // a stride of 0: the same in every row
  UF_LOAD_TILE(2, start, 0);
  if (pair) UF_LOAD_TILE(1, start + 16, 0);
  if (pair) UF_LOAD_TILE(3, start + 16, 0);
  for (int64_t step = p->steps; step > 0; --step, x += STEP, w += weight_step) {
    UF_LOAD_TILE(4, x, p->row_stride);
    UF_LOAD_TILE(6, w, UF_ALIGNMENT);
    UF_MULTIPLY_TILES(0, 4, 6);
    if (pair) UF_LOAD_TILE(7, w + TILE_BYTES, UF_ALIGNMENT);
    if (pair) UF_MULTIPLY_TILES(1, 4, 7);
    UF_LOAD_TILE(5, x + below, p->row_stride);
    UF_MULTIPLY_TILES(2, 5, 6);
    if (pair) UF_MULTIPLY_TILES(3, 5, 7);
  }
  UF_STORE_TILE(0, sums, sums_stride);
  UF_STORE_TILE(2, sums_below, sums_stride);
  if (pair) UF_STORE_TILE(1, sums + 16, sums_stride);
  if (pair) UF_STORE_TILE(3, sums_below + 16, sums_stride);
}

// --- Rows. ---

// Copies lie an odd number of cache lines apart, so that a tile's rows do not fight for one place in the cache.
static int64_t copy_stride(const uf_gemm_shape *shape) { return (steps(shape) | 1) * STEP; }

static size_t scratch_size(const uf_gemm_shape *shape) {
  return (size_t)(GROUPS * GROUP * copy_stride(shape)) + GROUP * UF_TILE_CHANNELS * sizeof(int32_t);
}

// A run of whole vectors and, under the mask, what is left, which may be a vector too.
UF_INLINE void copy_run(const uint8_t *from, int64_t whole, __mmask64 mask, uint8_t *to) {
  for (; whole > 0; --whole, from += STEP, to += STEP) _mm512_storeu_si512(to, _mm512_loadu_si512(from));
  _mm512_mask_storeu_epi8(to, mask, _mm512_maskz_loadu_epi8(mask, from));
}

// The runs of one tap of `count` rows from `first` on, each to its row.
UF_INLINE void copy_tap(const uf_gemm *gemm, int64_t tap, int64_t first, int64_t count, int64_t whole, __mmask64 mask,
                        uint8_t *to) {
  const int64_t stride = copy_stride(&gemm->shape), offset = gemm->table_offset, run_stride = gemm->run_stride;
  if (gemm->even != NULL) {
    const uint8_t *run = gemm->even + tap * gemm->tap_stride + first * run_stride + offset;
    for (int64_t row = 0; row < count; ++row, run += run_stride, to += stride) copy_run(run, whole, mask, to);
  } else {
    const uint8_t *const *runs = gemm->table + tap * gemm->table_stride + first;
    for (int64_t row = 0; row < count; ++row, to += stride) copy_run(runs[row] + offset, whole, mask, to);
  }
}

// The runs of a group's rows, one behind the other. What is behind them meets weights of 0.
static void copy_group(const uf_gemm *gemm, int64_t first, int64_t count, uint8_t *copies) {
  const int64_t depth = gemm->shape.depth, whole = (depth - 1) / STEP;
  const __mmask64 mask = uf_first_bytes(depth - whole * STEP);
  for (int64_t tap = 0; tap < gemm->shape.taps; ++tap, copies += depth) {
    if (whole == 0) {  // a constant: no loop in a row's copy
      copy_tap(gemm, tap, first, count, 0, mask, copies);
    } else {
      copy_tap(gemm, tap, first, count, whole, mask, copies);
    }
  }
}

// Whether a group's rows can be read where they lie: a whole group of single runs, with rows behind it for what is read
// too far.
static bool lies_ready(const uf_gemm *gemm, int64_t first) {
  const int64_t too_far = steps(&gemm->shape) * STEP - gemm->shape.depth, behind = gemm->rows - first - GROUP;
  return gemm->even != NULL && gemm->shape.taps == 1 && behind >= 0 && too_far <= behind * gemm->run_stride;
}

// --- Bytes. ---

UF_INLINE void finish_rows(const product *p, const uf_block *block, destination *to, int first, int rows,
                           arrangement kind) {
  const int vectors = row_vectors(kind);
  uf_tile tile = uf_start_tile(block, vectors);
#define LOAD_ROW(i) tile.r##i = uf_load_row(p->sums + (first + (i)) * 16 * vectors, vectors)
  UF_EACH_ROW(rows, LOAD_ROW);
#undef LOAD_ROW
  finish_tile(&tile, block, to, rows, kind);
}

UF_INLINE void finish(const product *p, const uf_block *block, const destination *to, arrangement kind) {
  const int rows = (int)uf_divide_up(to->pixels, row_pixels(kind));
  destination next = *to;
  int row = 0;
  for (; row + UF_TILE_ROWS <= rows; row += UF_TILE_ROWS) finish_rows(p, block, &next, row, UF_TILE_ROWS, kind);
  for (; row < rows; ++row) finish_rows(p, block, &next, row, 1, kind);
}

static void run_block(product *p, const uf_block *block, const destination *to, arrangement kind) {
  p->weights = (const int8_t *)(block + 1);
  p->start = block->start;
  p->vectors = weight_vectors(kind);
  int64_t vector = 0;
  for (; vector + 1 < p->vectors; vector += 2) multiply(p, vector, true);
  if (vector < p->vectors) multiply(p, vector, false);
  if (kind == CHANNELS_64) finish(p, block, to, CHANNELS_64);
  if (kind == CHANNELS_48) finish(p, block, to, CHANNELS_48);
  if (kind == CHANNELS_32) finish(p, block, to, CHANNELS_32);
  if (kind == CHANNELS_16) finish(p, block, to, CHANNELS_16);
}

// The rows of a group, where they lie or copied.
static product find_rows(const uf_gemm *gemm, int64_t first, int64_t count, uint8_t *copies, int32_t *sums) {
  product p = {.steps = steps(&gemm->shape), .sums = sums};
  if (lies_ready(gemm, first)) {
    p.rows = gemm->even + first * gemm->run_stride + gemm->table_offset;
    p.row_stride = gemm->run_stride;
  } else {
    copy_group(gemm, first, count, copies);
    p.rows = copies;
    p.row_stride = copy_stride(&gemm->shape);
  }
  return p;
}

// Groups take turns at a block, so that its weights come from far away for one of them only.
static void run(const uf_gemm *gemm, uf_range blocks) {
  const uf_gemm_shape *shape = &gemm->shape;
  const int64_t group_bytes = GROUP * copy_stride(shape);
  int32_t *sums = (int32_t *)(gemm->scratch + GROUPS * group_bytes);
  configure();
  for (int64_t begin = 0; begin < gemm->rows; begin += GROUPS * GROUP) {
    product products[GROUPS];
    int64_t counts[GROUPS], groups = 0;
    for (int64_t first = begin; groups < GROUPS && first < gemm->rows; first += GROUP, ++groups) {
      counts[groups] = gemm->rows - first < GROUP ? gemm->rows - first : GROUP;
      products[groups] = find_rows(gemm, first, counts[groups], gemm->scratch + groups * group_bytes, sums);
    }
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t channel = block * UF_TILE_CHANNELS;
      for (int64_t group = 0; group < groups; ++group) {
        uint8_t *out = gemm->out + (begin + group * GROUP) * gemm->out_stride + channel;
        const destination to = {out, gemm->out_stride, shape->channels - channel, counts[group]};
        run_block(&products[group], (const uf_block *)(gemm->packed + block_offset(shape, block)), &to,
                  arrangement_of(shape, block));
      }
    }
  }
  UF_RELEASE_TILES();
}

const uf_gemm_level uf_gemm__amx = {
    .least_weight = INT8_MIN,
    .greatest_weight = INT8_MAX,
    .takes_even = true,
    .long_panels = true,
    .block_channels = UF_TILE_CHANNELS,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
    .scratch_size = scratch_size,
    .pays = pays,
};
