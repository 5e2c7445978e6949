// Depthwise 3x3 convolution at stride 1 (C11, AVX-512 VNNI).
//
// Two output rows at a time see four input rows, whose bytes in one column make one channel's lane: the upper row's
// weights end with a zero, the lower row's begin with one. Columns pass through registers, 32 channels at a time: each
// is loaded and interleaved once, and added to the three pixels of both rows that see it, of which the oldest is then
// finished.

#include "../tile_avx512vnni.h"
#include "places.h"

enum {
  SIZE = 3,  // of the kernel, both ways
  BAND = 2,  // output rows
  ROWS = SIZE + BAND - 1,
  CHANNELS = 32,  // of a block
  VECTORS = 2,    // of sums of one pixel
  TAP_BYTES = BAND * VECTORS * 64,
  BLOCK_BYTES = sizeof(uf_block) + SIZE * TAP_BYTES,
  MARGIN_BYTES = UF_ALIGNMENT,  // of zero points, read in place of a pixel outside of the image
};

static int32_t blocks(const uf_node *node) { return (int32_t)uf_divide_up(node->output->shape[3], CHANNELS); }

// --- At load. ---

// CPUs with the 52-bit products of IFMA have the permutations of VBMI too, unless someone hides them.
#ifdef UF_EMULATED
static bool has_byte_permutation(void) { return qmath_has_absorbed16(); }
#else
static bool has_byte_permutation(void) { return __builtin_cpu_supports("avx512vbmi"); }
#endif

// Where more than a sixth of the lanes would be empty, kernels for narrow blocks are faster.
static bool supports(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const bool size = window->kernel_h == SIZE && window->kernel_w == SIZE && window->dilation_h == 1 &&
                    window->dilation_w == 1 && window->stride_h == 1 && window->stride_w == 1;
  const int32_t channels = node->output->shape[3], empty = blocks(node) * CHANNELS - channels;
  const bool able = has_byte_permutation() || !qmath_has_absorbed16();
  return size && able && linear->weight_zero_point == 0 && channels == node->inputs[0]->shape[3] &&
         empty * 6 <= blocks(node) * CHANNELS;
}

static size_t packed_size(const uf_node *node) { return MARGIN_BYTES + (size_t)blocks(node) * BLOCK_BYTES; }

// Packing brings the quarters of two vectors together: the first has channels 0 to 3 of each 8, the second the others.
static uf_lane_map lane_map(void) {
  uf_lane_map map = {.lanes = CHANNELS};
  for (int lane = 0; lane < map.lanes; ++lane) {
    map.channel[lane] = (uint8_t)(lane % 16 / 4 * 8 + lane / 16 * 4 + lane % 4);
  }
  return map;
}

// Weights of a lane: [kernel_w][BAND][lanes][ROWS].
static void pack_lane(const int8_t *weight, int32_t channels, int lane, int8_t *packed) {
  for (int i = 0; i < SIZE; ++i) {
    for (int j = 0; j < SIZE; ++j) {
      const int8_t w = weight[(int64_t)(i * SIZE + j) * channels];
      for (int row = 0; row < BAND; ++row) {
        packed[j * TAP_BYTES + row * VECTORS * 64 + lane * ROWS + row + i] = w;
      }
    }
  }
}

static void pack_block(const uf_node *node, int32_t block, uint8_t *packed) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3], first = block * CHANNELS, left = channels - first;
  const int count = left < CHANNELS ? left : CHANNELS;
  const uf_lane_map map = lane_map();
  uf_weight_sums sums[CHANNELS];
  for (int c = 0; c < count; ++c) sums[c] = uf_sum_weights(linear->weight + first + c, SIZE * SIZE, channels);
  for (int lane = 0; lane < map.lanes; ++lane) {
    const int c = map.channel[lane];
    if (c < count) pack_lane(linear->weight + first + c, channels, lane, (int8_t *)packed + sizeof(uf_block));
  }
  uf_pack_block(linear, first, count, sums, &map, (uf_block *)packed);
}

static void pack(const uf_node *node, void *packed) {
  uint8_t *first = (uint8_t *)packed + MARGIN_BYTES;
  memset(packed, node->params.linear.input_zero_point, MARGIN_BYTES);
  for (int32_t block = 0; block < blocks(node); ++block) {
    pack_block(node, block, first + (size_t)block * BLOCK_BYTES);
  }
}

// --- The kernel. ---

// Two output rows of a block.
typedef struct {
  const uf_block *block;      // its weights follow
  const uint8_t *rows[ROWS];  // of the input, at column 0, or zero points
  int64_t step[ROWS];         // from one column to the next, 0 for zero points
  const uint8_t *outside;
  int32_t width, pad;        // of the input
  int32_t pixels;            // of an output row
  uint8_t *out[BAND];        // the next pixel
  int64_t out_pixel;         // from it to the one behind it
  __mmask32 channels[BAND];  // to be stored
} band_task;

typedef struct {
  __m512i v0, v1;
} column_type;

// Which bytes of two rows of 32 channels, and of two rows more, make the lanes of a column.
#define LANE(channel) (0x60402000 + 0x01010101 * (channel))
#define LANES(c) LANE(c), LANE(c + 1), LANE(c + 2), LANE(c + 3)
_Alignas(UF_ALIGNMENT) static const int32_t kBytes[VECTORS][16] = {{LANES(0), LANES(8), LANES(16), LANES(24)},
                                                                   {LANES(4), LANES(12), LANES(20), LANES(28)}};
#undef LANE
#undef LANES

// Without VBMI: which four bytes of each row come into a quarter.
#define QUARTER(q, v) 2 * q + v, 8 + 2 * q + v, 16 + 2 * q + v, 24 + 2 * q + v
_Alignas(UF_ALIGNMENT) static const int32_t kQuarters[VECTORS][16] = {
    {QUARTER(0, 0), QUARTER(1, 0), QUARTER(2, 0), QUARTER(3, 0)},
    {QUARTER(0, 1), QUARTER(1, 1), QUARTER(2, 1), QUARTER(3, 1)}};
#undef QUARTER

UF_INLINE __m512i load_two(const uint8_t *upper, const uint8_t *lower) {
  const __m256i half = _mm256_loadu_si256((const void *)upper);
  return _mm512_inserti64x4(_mm512_castsi256_si512(half), _mm256_loadu_si256((const void *)lower), 1);
}

typedef struct {
  bool by_bytes;
  __m512i order0, order1;      // kBytes, or kQuarters
  uf_row left, middle, right;  // weights
} band_constants;

UF_INLINE uf_row load_weights(const uf_block *block, int tap) {
  const uf_row row = uf_load_row((const uint8_t *)(block + 1) + tap * TAP_BYTES, UF_TILE_VECTORS);
  const uf_row own = {uf_own(row.v0), uf_own(row.v1), uf_own(row.v2), uf_own(row.v3)};
  return own;
}

UF_INLINE band_constants load_constants(const uf_block *block, bool by_bytes) {
  const int32_t(*order)[16] = by_bytes ? kBytes : kQuarters;
  const band_constants constants = {by_bytes,
                                    uf_own(_mm512_load_si512(order[0])),
                                    uf_own(_mm512_load_si512(order[1])),
                                    load_weights(block, 0),
                                    load_weights(block, 1),
                                    load_weights(block, 2)};
  return constants;
}

UF_INLINE __m512i interleave(__m512i above, __m512i below, __m512i order, bool by_bytes) {
  if (by_bytes) return uf_permute_bytes(above, order, below);
  const __m128i turned = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);  // channel by channel
  return _mm512_shuffle_epi8(_mm512_permutex2var_epi32(above, order, below), _mm512_broadcast_i32x4(turned));
}

// A column of the image in the lanes of two vectors.
UF_INLINE column_type load_column(const band_task *task, const band_constants *constants, int32_t x) {
  const bool inside = (uint32_t)x < (uint32_t)task->width;
#define AT(i) (inside ? task->rows[i] + x * task->step[i] : task->outside)
  const __m512i above = load_two(AT(0), AT(1)), below = load_two(AT(2), AT(3));
#undef AT
  const column_type column = {interleave(above, below, constants->order0, constants->by_bytes),
                              interleave(above, below, constants->order1, constants->by_bytes)};
  return column;
}

// Sums of one pixel in both rows: the upper one's two vectors, and the lower one's.
UF_INLINE void dot_column(uf_row *sums, const column_type *column, const uf_row *weights) {
  uf_dot4_row(sums, column->v0, weights->v0, column->v1, weights->v1, column->v0, weights->v2, column->v1, weights->v3);
}

UF_INLINE uf_row start_sums(const uf_block *block) {
  const uf_row row = uf_load_row(block->start, VECTORS);
  const uf_row both = {row.v0, row.v1, row.v0, row.v1};
  return both;
}

// Rescales a pixel's sums and stores it in both rows.
UF_INLINE void finish_pixel(band_task *task, const uf_row *sums, uf_form form) {
  uf_tile tile = {.r0 = {.v0 = sums->v0, .v1 = sums->v1}, .r1 = {.v0 = sums->v2, .v1 = sums->v3}};
  if (form <= UF_BENT) {
    uf_rescale_absorbed(&tile, task->block, BAND, VECTORS, form);
  } else if (form == UF_SHIFTED) {
    uf_rescale_shifted(&tile, task->block, BAND, VECTORS);
  } else {
    uf_rescale_in_memory(&tile, task->block, BAND, VECTORS);
  }
  const uf_row row = {tile.r0.v0, tile.r0.v1, tile.r1.v0, tile.r1.v1};
  const uf_clamp clamp = uf_load_clamp(task->block);
  const __m512i apart = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const __m512i bytes = _mm512_permutexvar_epi64(apart, uf_row_bytes(&row, &clamp, form));
  _mm256_mask_storeu_epi8(task->out[0], task->channels[0], _mm512_castsi512_si256(bytes));
  _mm256_mask_storeu_epi8(task->out[1], task->channels[1], _mm512_extracti64x4_epi64(bytes, 1));
  task->out[0] += task->out_pixel;
  task->out[1] += task->out_pixel;
}

UF_INLINE void run_band(const band_task *task, uf_form form) {
  band_task own = *task;                  // which no store can change
  const bool by_bytes = form <= UF_BENT;  // these forms take IFMA, and where that is there is VBMI
  const band_constants constants = load_constants(own.block, by_bytes);
  int32_t x = -own.pad;
  const column_type first = load_column(&own, &constants, x), second = load_column(&own, &constants, x + 1);
  uf_row oldest = start_sums(own.block), older = oldest;
  dot_column(&oldest, &first, &constants.left);
  dot_column(&oldest, &second, &constants.middle);
  dot_column(&older, &second, &constants.left);
  const int32_t end = x + own.pixels;
  do {
    const column_type column = load_column(&own, &constants, x + 2);
    uf_row newest = start_sums(own.block);
    dot_column(&oldest, &column, &constants.right);
    dot_column(&older, &column, &constants.middle);
    dot_column(&newest, &column, &constants.left);
    finish_pixel(&own, &oldest, form);
    oldest = older;  // a CPU renames registers instead of copying them
    older = newest;
  } while (++x < end);
}

static void run_absorbed(const band_task *task) { run_band(task, UF_ABSORBED); }
static void run_bent(const band_task *task) { run_band(task, UF_BENT); }
static void run_shifted(const band_task *task) { run_band(task, UF_SHIFTED); }
static void run_exact(const band_task *task) { run_band(task, UF_EXACT); }

// By form; a clamped block is a bent one.
static void (*const kBands[])(const band_task *) = {run_absorbed, run_bent, run_bent, run_shifted, run_exact};

// Points at the rows under two output rows.
static void point_at_rows(const uf_node *node, int64_t sample, int32_t row, int32_t channel, band_task *task) {
  const uf_tensor *input = node->inputs[0];
  const int32_t height = input->shape[1], width = input->shape[2], channels = input->shape[3];
  for (int32_t i = 0; i < ROWS; ++i) {
    const int32_t at = row - node->params.linear.window.pad_top + i;
    const bool inside = at >= 0 && at < height;
    task->rows[i] = inside ? input->data + (sample * height + at) * width * channels + channel : task->outside;
    task->step[i] = inside ? channels : 0;
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uint8_t *outside = node->packed, *packed = outside + MARGIN_BYTES;
  const uf_tensor *output = node->output;
  const int32_t height = output->shape[1], width = output->shape[2], channels = output->shape[3];
  const int32_t bands = (int32_t)uf_divide_up(height, BAND), each = blocks(node);
  band_task task = {.outside = outside,
                    .width = node->inputs[0]->shape[2],
                    .pad = node->params.linear.window.pad_left,
                    .pixels = width,
                    .out_pixel = channels};
  const uf_range share = uf_share((int64_t)output->shape[0] * bands * each, 1, thread, threads);
  place_type place = place_at(share.begin, bands, each);
  for (int64_t left = share.end - share.begin; left > 0; --left, move_on(&place)) {
    const int32_t row = place.row * BAND, channel = place.block * CHANNELS;
    task.block = (const uf_block *)(packed + (size_t)place.block * BLOCK_BYTES);
    point_at_rows(node, place.sample, row, channel, &task);
    task.out[0] = output->data + (place.sample * height + row) * width * channels + channel;
    const bool has_lower = row + 1 < height;
    task.out[1] = has_lower ? task.out[0] + (int64_t)width * channels : task.out[0];
    task.channels[0] = (__mmask32)uf_first_bytes(channels - channel);
    task.channels[1] = has_lower ? task.channels[0] : 0;
    kBands[task.block->form](&task);
  }
}

const uf_kernel depthwise_conv2d__avx512vnni_stride1 = {
    .name = "depthwise_conv2d__avx512vnni_stride1",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
