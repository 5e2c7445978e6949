// Indirect matrix product on packed weights (see avx512vnni.h). A packed block is a uf_block and its weights
// [taps][depth / 4][lanes][4], depth padded with zeros to a multiple of 4.

#include "gemm/avx512vnni.h"

#include "tile_avx512vnni.h"

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t steps(const uf_gemm_shape *shape) { return divide_up(shape->depth, 4); }

// Vectors of 16 channels in a block.
static int block_vectors(const uf_gemm_shape *shape, int64_t block) {
  const int64_t left = divide_up(shape->channels - block * UF_TILE_CHANNELS, 16);
  return left < UF_TILE_VECTORS ? (int)left : UF_TILE_VECTORS;
}

static size_t weights_size(const uf_gemm_shape *shape, int vectors) {
  return (size_t)(shape->taps * steps(shape) * vectors) * UF_ALIGNMENT;
}

static size_t block_offset(const uf_gemm_shape *shape, int64_t block) {
  return (size_t)block * (sizeof(uf_block) + weights_size(shape, UF_TILE_VECTORS));
}

int64_t uf_gemm_blocks(const uf_gemm_shape *shape) { return divide_up(shape->channels, UF_TILE_CHANNELS); }

size_t uf_gemm_packed_size(const uf_gemm_shape *shape) {
  const int64_t last = uf_gemm_blocks(shape) - 1;
  return block_offset(shape, last) + sizeof(uf_block) + weights_size(shape, block_vectors(shape, last));
}

// ---- Packing ---------------------------------------------------------------------------------------------------------

// One channel's weights into its lane; `packed` is zeroed.
static uf_weight_sums pack_channel(const int8_t *weight, const uf_gemm_shape *shape, int lane, int vectors,
                                   int8_t *packed) {
  uf_weight_sums sums = {0, 0};
  for (int64_t tap = 0; tap < shape->taps; ++tap) {
    for (int64_t k = 0; k < shape->depth; ++k) {
      const int8_t w = weight[tap * shape->depth + k];
      packed[((tap * steps(shape) + k / 4) * 16 * vectors + lane) * 4 + k % 4] = w;
      uf_add_weight(&sums, w);
    }
  }
  return sums;
}

static void pack_block(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, int64_t block,
                       uint8_t *packed) {
  uf_weight_sums sums[UF_TILE_CHANNELS];
  const int vectors = block_vectors(shape, block);
  const int64_t begin = block * UF_TILE_CHANNELS, left = shape->channels - begin;
  const int count = left < UF_TILE_CHANNELS ? (int)left : UF_TILE_CHANNELS;
  int8_t *weights = (int8_t *)packed + sizeof(uf_block);
  memset(weights, 0, weights_size(shape, vectors));
  for (int lane = 0; lane < 16 * vectors; ++lane) {
    const int c = uf_channel_of_lane(lane, vectors);
    const int8_t *weight = linear->weight + (first + begin + c) * shape->taps * shape->depth;
    if (c < count) sums[c] = pack_channel(weight, shape, lane, vectors, weights);
  }
  uf_pack_block(linear, first + begin, count, sums, vectors, (uf_block *)packed);
}

void uf_gemm_pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < uf_gemm_blocks(shape); ++block) {
    pack_block(linear, shape, first, block, (uint8_t *)packed + block_offset(shape, block));
  }
}

// ---- The kernel ------------------------------------------------------------------------------------------------------

typedef struct {
  const uf_block *block;
  const uint8_t *const *table;
  int64_t table_stride, table_offset;
  int64_t taps, steps;
  uint8_t *out;
  int64_t out_stride;
  __mmask64 mask;
} tile_task;

UF_INLINE void dot_row(uf_row *acc, const uint8_t *x, const uf_row *weights, int vectors) {
  const __m512i four = uf_broadcast4(x);
  acc->v0 = uf_dot4(acc->v0, four, weights->v0);
  if (vectors > 1) acc->v1 = uf_dot4(acc->v1, four, weights->v1);
  if (vectors > 2) acc->v2 = uf_dot4(acc->v2, four, weights->v2);
  if (vectors > 3) acc->v3 = uf_dot4(acc->v3, four, weights->v3);
}

UF_INLINE void run_tile(const tile_task *task, int rows, int vectors) {
  const int8_t *w = (const int8_t *)(task->block + 1);
  const uint8_t *const *table = task->table;
  uf_tile tile = uf_start_tile(task->block, vectors);
  for (int64_t tap = 0; tap < task->taps; ++tap, table += task->table_stride) {
    const int64_t offset = task->table_offset;
    const uint8_t *x0 = table[0] + offset, *x1 = table[1] + offset, *x2 = table[2] + offset;
    const uint8_t *x3 = table[3] + offset, *x4 = table[4] + offset, *x5 = table[5] + offset;
    for (int64_t k = 0; k < 4 * task->steps; k += 4, w += 64 * vectors) {
      const uf_row weights = uf_load_row(w, vectors);
#define DOT_ROW(i) dot_row(&tile.r##i, x##i + k, &weights, vectors)
      UF_EACH_ROW(rows, DOT_ROW);
#undef DOT_ROW
    }
  }
  uint8_t *const out = task->out;
  const int64_t stride = task->out_stride;
  uint8_t *const outs[] = {out,              out + stride,     out + 2 * stride,
                           out + 3 * stride, out + 4 * stride, out + 5 * stride};
  uf_finish_tile(&tile, task->block, rows, vectors, outs, task->mask);
}

#define TILE(rows, vectors) \
  static void run_tile_##rows##x##vectors(const tile_task *task) { run_tile(task, rows, vectors); }
#define TILES(rows) TILE(rows, 1) TILE(rows, 2) TILE(rows, 3) TILE(rows, 4)
TILES(1) TILES(2) TILES(3) TILES(4) TILES(5) TILES(6)
#define NAMES(rows) {run_tile_##rows##x1, run_tile_##rows##x2, run_tile_##rows##x3, run_tile_##rows##x4}
static void (*const kTile[UF_TILE_ROWS][UF_TILE_VECTORS])(const tile_task *) = {NAMES(1), NAMES(2), NAMES(3),
                                                                                 NAMES(4), NAMES(5), NAMES(6)};

void uf_gemm_run(const uf_gemm *gemm, uf_range blocks) {
  const uf_gemm_shape *shape = &gemm->shape;
  const int64_t tiles = divide_up(gemm->rows, UF_TILE_ROWS);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    const int64_t channel = block * UF_TILE_CHANNELS;
    tile_task task = {
        .block = (const uf_block *)(gemm->packed + block_offset(shape, block)),
        .table_stride = gemm->table_stride,
        .table_offset = gemm->table_offset,
        .taps = shape->taps,
        .steps = steps(shape),
        .out_stride = gemm->out_stride,
        .mask = uf_channel_mask(shape->channels - channel),
    };
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const uf_range rows = uf_share(gemm->rows, 1, (int)tile, (int)tiles);  // as even as can be
      task.table = gemm->table + rows.begin;
      task.out = gemm->out + rows.begin * gemm->out_stride + channel;
      kTile[rows.end - rows.begin - 1][block_vectors(shape, block) - 1](&task);
    }
  }
}
