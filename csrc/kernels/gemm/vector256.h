// The matrix product of gemm.h with vectors of 256 bits: AVX-VNNI, and AVX2 (C11). The file that includes it defines
// UF_GEMM, the level's name, and UF_DOT4 where the CPU adds four products of bytes in one instruction.
//
// A block is 16 channels: a uf_block256 and its weights [taps][depth / 4][16][4], depth padded with zeros. With UF_DOT4
// a row of a tile is two vectors of accumulators and weights are bytes. Without, 16-bit products are added in pairs
// (bytes would be added in 16 bits, which saturate), so weights are 16-bit numbers and a row is four vectors of halves
// of sums, brought together at its end.

#include <immintrin.h>
#include <string.h>

#include "../block256.h"
#include "gemm.h"

#ifdef UF_DOT4
typedef int8_t weight_type;
enum { TILE_ROWS = 6, ROW_VECTORS = 2 };
#else
typedef int16_t weight_type;
enum { TILE_ROWS = 3, ROW_VECTORS = 4 };
#endif

enum { STEP_BYTES = UF_BLOCK256_CHANNELS * 4 * (int)sizeof(weight_type) };

// Packing two vectors of 32-bit numbers to bytes brings their 128-bit halves together. So the first vector holds the
// channels 0 to 3 and 8 to 11, the second the others.
static int lane_channel(int vector, int lane) { return 4 * vector + lane % 4 + lane / 4 * 8; }

// The channel of each group of four weights of a step.
static int weight_channel(int group) {
#ifdef UF_DOT4
  return lane_channel(group / 8, group % 8);
#else  // a sum of halves takes pairs of groups from two vectors in turn
  const int vector = group / 4, lane = group % 4;
  return 4 * (vector / 2) + 2 * (vector % 2) + lane % 2 + lane / 2 * 8;
#endif
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t steps(const uf_gemm_shape *shape) { return divide_up(shape->depth, 4); }

static size_t block_size(const uf_gemm_shape *shape) {
  return sizeof(uf_block256) + (size_t)(shape->taps * steps(shape)) * STEP_BYTES;
}

static int64_t blocks(const uf_gemm_shape *shape) { return divide_up(shape->channels, UF_BLOCK256_CHANNELS); }

static size_t packed_size(const uf_gemm_shape *shape) { return (size_t)blocks(shape) * block_size(shape); }

// --- Packing. ---

// One channel's weights into its group; `packed` is zeroed.
static uf_weight_sums pack_channel(const int8_t *weight, const uf_gemm_shape *shape, int group, weight_type *packed) {
  uf_weight_sums sums = {0, 0};
  for (int64_t tap = 0; tap < shape->taps; ++tap) {
    for (int64_t k = 0; k < shape->depth; ++k) {
      const int8_t w = weight[tap * shape->depth + k];
      packed[((tap * steps(shape) + k / 4) * UF_BLOCK256_CHANNELS + group) * 4 + k % 4] = w;
      uf_add_weight(&sums, w);
    }
  }
  return sums;
}

static void pack_block(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, int64_t block,
                       uint8_t *packed) {
  uf_weight_sums sums[UF_BLOCK256_CHANNELS];
  const int64_t begin = first + block * UF_BLOCK256_CHANNELS, left = shape->channels - block * UF_BLOCK256_CHANNELS;
  const int count = left < UF_BLOCK256_CHANNELS ? (int)left : UF_BLOCK256_CHANNELS;
  memset(packed, 0, block_size(shape));
  for (int group = 0; group < UF_BLOCK256_CHANNELS; ++group) {
    const int c = weight_channel(group);
    if (c >= count) continue;
    const int8_t *weight = linear->weight + (begin + c) * shape->taps * shape->depth;
    sums[c] = pack_channel(weight, shape, group, (weight_type *)(packed + sizeof(uf_block256)));
  }
  uf_pack_block256(linear, begin, count, sums, lane_channel, (uf_block256 *)packed);
}

static void pack(const uf_linear *linear, const uf_gemm_shape *shape, int64_t first, void *packed) {
  for (int64_t block = 0; block < blocks(shape); ++block) {
    pack_block(linear, shape, first, block, (uint8_t *)packed + (size_t)block * block_size(shape));
  }
}

// --- The kernel. Structs of named vectors and constant conditions: gcc keeps these in registers, and not arrays. ---

typedef struct {
  __m256i v0, v1, v2, v3;
} row_type;

typedef struct {
  const uf_block256 *block;
  const uint8_t *const *table;
  int64_t table_stride, table_offset;
  int64_t taps, steps;
  uint8_t *out;
  int64_t out_stride, channels;  // channels to be stored
} tile_task;

// A statement for each row of a tile; the conditions are constants.
#define EACH_ROW(rows, DO) \
  do {                     \
    DO(0);                 \
    if ((rows) > 1) DO(1); \
    if ((rows) > 2) DO(2); \
    if ((rows) > 3) DO(3); \
    if ((rows) > 4) DO(4); \
    if ((rows) > 5) DO(5); \
  } while (0)

UF_INLINE __m256i four_bytes(const uint8_t *x) {
  int32_t four;
  memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

UF_INLINE row_type load_weights(const void *w) {
  const __m256i *vector = w, zero = _mm256_setzero_si256();
  const row_type row = {_mm256_load_si256(vector), _mm256_load_si256(vector + 1),
                        ROW_VECTORS > 2 ? _mm256_load_si256(vector + 2) : zero,
                        ROW_VECTORS > 2 ? _mm256_load_si256(vector + 3) : zero};
  return row;
}

// One step of a row, whose run is at x.
UF_INLINE void dot_row(row_type *acc, const uint8_t *x, const row_type *weights) {
#ifdef UF_DOT4
  const __m256i a = four_bytes(x);
  acc->v0 = UF_DOT4(acc->v0, a, weights->v0);
  acc->v1 = UF_DOT4(acc->v1, a, weights->v1);
#else
  const __m256i a = _mm256_cvtepu8_epi16(_mm256_castsi256_si128(four_bytes(x)));
  acc->v0 = _mm256_add_epi32(acc->v0, _mm256_madd_epi16(a, weights->v0));
  acc->v1 = _mm256_add_epi32(acc->v1, _mm256_madd_epi16(a, weights->v1));
  acc->v2 = _mm256_add_epi32(acc->v2, _mm256_madd_epi16(a, weights->v2));
  acc->v3 = _mm256_add_epi32(acc->v3, _mm256_madd_epi16(a, weights->v3));
#endif
}

// The 16 bytes of a row, in the channels' order.
UF_INLINE __m128i row_bytes(const row_type *row, const uf_block256 *block) {
#ifdef UF_DOT4
  const __m256i first = row->v0, second = row->v1;
#else
  const __m256i first = _mm256_hadd_epi32(row->v0, row->v1), second = _mm256_hadd_epi32(row->v2, row->v3);
#endif
  const __m256i words = _mm256_packs_epi32(uf_rescale256(first, block, 0), uf_rescale256(second, block, 1));
  const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  return uf_clamp256(bytes, block);
}

UF_INLINE void store_row(const tile_task *task, const row_type *row, int index) {
  const __m128i bytes = row_bytes(row, task->block);
  uf_store256(task->out + index * task->out_stride, bytes, task->channels);
}

UF_INLINE void run_tile(const tile_task *task, int rows) {
  const __m256i zero = _mm256_setzero_si256();
  const row_type none = {zero, zero, zero, zero};
  row_type r0 = none, r1 = none, r2 = none, r3 = none, r4 = none, r5 = none;
  const uint8_t *w = (const uint8_t *)(task->block + 1);
  const uint8_t *const *x = task->table;
  for (int64_t tap = 0; tap < task->taps; ++tap, x += task->table_stride) {
    const int64_t end = task->table_offset + 4 * task->steps;
    for (int64_t at = task->table_offset; at != end; at += 4, w += STEP_BYTES) {
      const row_type weights = load_weights(w);
#define DOT_ROW(i) dot_row(&r##i, x[i] + at, &weights)
      EACH_ROW(rows, DOT_ROW);
#undef DOT_ROW
    }
  }
#define STORE_ROW(i) store_row(task, &r##i, i)
  EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
}

static void run_tile_1(const tile_task *task) { run_tile(task, 1); }
static void run_tile_2(const tile_task *task) { run_tile(task, 2); }
static void run_tile_3(const tile_task *task) { run_tile(task, 3); }
#ifdef UF_DOT4
static void run_tile_4(const tile_task *task) { run_tile(task, 4); }
static void run_tile_5(const tile_task *task) { run_tile(task, 5); }
static void run_tile_6(const tile_task *task) { run_tile(task, 6); }
#endif

static void (*const kTile[TILE_ROWS])(const tile_task *) = {
    run_tile_1, run_tile_2, run_tile_3,
#ifdef UF_DOT4
    run_tile_4, run_tile_5, run_tile_6,
#endif
};

// All rows of a block, in tiles as even as can be.
static void run_block(const uf_gemm *gemm, int64_t block) {
  const uf_gemm_shape *shape = &gemm->shape;
  const int64_t channel = block * UF_BLOCK256_CHANNELS, tiles = divide_up(gemm->rows, TILE_ROWS);
  tile_task task = {
      .block = (const uf_block256 *)(gemm->packed + (size_t)block * block_size(shape)),
      .table_stride = gemm->table_stride,
      .table_offset = gemm->table_offset,
      .taps = shape->taps,
      .steps = steps(shape),
      .out_stride = gemm->out_stride,
      .channels = shape->channels - channel,
  };
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const uf_range rows = uf_share(gemm->rows, 1, (int)tile, (int)tiles);
    task.table = gemm->table + rows.begin;
    task.out = gemm->out + rows.begin * gemm->out_stride + channel;
    kTile[rows.end - rows.begin - 1](&task);
  }
}

static void run(const uf_gemm *gemm, uf_range range) {
  for (int64_t block = range.begin; block < range.end; ++block) run_block(gemm, block);
}

const uf_gemm_level UF_GEMM = {blocks, packed_size, pack, run};
