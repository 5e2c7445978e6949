// Depthwise 3x3 convolution at horizontal stride 2 (C11, AVX-512 VNNI).
//
// Neighbouring pixels share one column in three, too few to keep interleaved columns in memory as avx512vnni.c does:
// here they pass through registers. A column is three input rows whose bytes are interleaved, one channel's three bytes
// (and a fourth that meets a zero weight) in each lane; a pixel is three columns, the last of which is the next pixel's
// first.

#include "../tile_avx512vnni.h"
#include "places.h"

enum {
  SIZE = 3,    // of the kernel, both ways
  STRIDE = 2,  // horizontal
  GROUP = 4,   // bytes in a lane
  COLUMN_BYTES = GROUP * UF_TILE_CHANNELS,
  BLOCK_BYTES = sizeof(uf_block) + SIZE * COLUMN_BYTES,
  MARGIN_BYTES = UF_TILE_CHANNELS + UF_SLACK,  // zero points, read in place of a pixel outside of the image
  PIXELS = 3,                                  // of a tile
  HALF = UF_TILE_CHANNELS / 2,                 // channels of which two rows fit a vector
};

static int32_t blocks(const uf_node *node) {
  return (node->output->shape[3] + UF_TILE_CHANNELS - 1) / UF_TILE_CHANNELS;
}

static int block_channels(const uf_node *node, int32_t block) {
  const int32_t left = node->output->shape[3] - block * UF_TILE_CHANNELS;
  return left < UF_TILE_CHANNELS ? left : UF_TILE_CHANNELS;
}

// --- At load. ---

// Only the first pixel's first column and the last pixel's last one may lie outside of the image.
static bool supports(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const bool size = window->kernel_h == SIZE && window->kernel_w == SIZE && window->dilation_h == 1 &&
                    window->dilation_w == 1 && window->stride_w == STRIDE;
  const int32_t last_middle = (output->shape[2] - 1) * STRIDE - window->pad_left + 1;
  return size && linear->weight_zero_point == 0 && output->shape[3] == input->shape[3] && window->pad_left <= 1 &&
         last_middle < input->shape[2];
}

static size_t packed_size(const uf_node *node) { return MARGIN_BYTES + (size_t)blocks(node) * BLOCK_BYTES; }

static void pack_block(const uf_node *node, int32_t block, uint8_t *packed) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3], first = block * UF_TILE_CHANNELS;
  const int count = block_channels(node, block);
  const uf_lane_map map = uf_quarter_order(count > HALF ? UF_TILE_CHANNELS : HALF);
  uf_weight_sums sums[UF_TILE_CHANNELS];
  int8_t *weights = (int8_t *)packed + sizeof(uf_block);
  for (int lane = 0; lane < map.lanes; ++lane) {
    const int c = map.channel[lane];
    if (c >= count) continue;
    for (int row = 0; row < SIZE; ++row) {
      for (int column = 0; column < SIZE; ++column) {
        const int8_t w = linear->weight[(int64_t)(row * SIZE + column) * channels + first + c];
        weights[column * COLUMN_BYTES + lane * GROUP + row] = w;
      }
    }
  }
  for (int c = 0; c < count; ++c) sums[c] = uf_sum_weights(linear->weight + first + c, SIZE * SIZE, channels);
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

// Three input rows under an output row, or zero points: pixel p of row i is at data[i] + p * step[i].
typedef struct {
  const uint8_t *data[SIZE];
  int64_t step[SIZE];
} input_rows;

// One output row of a block, or two of a narrow one.
typedef struct {
  const uf_block *block;  // its weights follow
  input_rows upper, lower;
  const uint8_t *outside;
  int32_t middle;  // column of the image under the middle of the next pixel
  int32_t input_width;
  uint8_t *out, *lower_out;  // the next pixel
  int64_t out_pixel;
  __mmask64 channels, lower_channels;  // to be stored
} row_task;

UF_INLINE __m512i load_pixels(const row_task *task, int row, int32_t column, bool two_rows) {
  const uint8_t *upper = task->upper.data[row] + column * task->upper.step[row];
  if (!two_rows) return _mm512_loadu_si512(upper);
  const uint8_t *lower = task->lower.data[row] + column * task->lower.step[row];
  const __m256i half = _mm256_loadu_si256((const void *)upper);
  return _mm512_inserti64x4(_mm512_castsi256_si512(half), _mm256_loadu_si256((const void *)lower), 1);
}

// A column of the image in the lanes of a row.
UF_INLINE uf_row load_column(const row_task *task, int32_t column, bool two_rows) {
  const bool inside = (uint32_t)column < (uint32_t)task->input_width;
#define PIXELS_OF(row) inside ? load_pixels(task, row, column, two_rows) : _mm512_loadu_si512(task->outside)
  const __m512i a = PIXELS_OF(0), b = PIXELS_OF(1), c = PIXELS_OF(2);
#undef PIXELS_OF
  const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
  const __m512i c_low = _mm512_unpacklo_epi8(c, c), c_high = _mm512_unpackhi_epi8(c, c);
  const uf_row row = {_mm512_unpacklo_epi16(ab_low, c_low), _mm512_unpackhi_epi16(ab_low, c_low),
                      _mm512_unpacklo_epi16(ab_high, c_high), _mm512_unpackhi_epi16(ab_high, c_high)};
  return row;
}

UF_INLINE void dot_column(uf_row *acc, const uf_row *column, const uint8_t *weights) {
  const uf_row w = uf_load_row(weights, UF_TILE_VECTORS);
  uf_dot4_row(acc, column->v0, w.v0, column->v1, w.v1, column->v2, w.v2, column->v3, w.v3);
}

// The pixel whose first column is `left`, which becomes the next pixel's.
UF_INLINE void dot_pixel(uf_row *acc, uf_row *left, const row_task *task, int32_t middle, bool two_rows) {
  const uint8_t *weights = (const uint8_t *)(task->block + 1);
  dot_column(acc, left, weights);
  const uf_row centre = load_column(task, middle, two_rows);
  dot_column(acc, &centre, weights + COLUMN_BYTES);
  *left = load_column(task, middle + 1, two_rows);
  dot_column(acc, left, weights + 2 * COLUMN_BYTES);
}

UF_INLINE void store_pixel(const row_task *task, int pixel, __m512i bytes, bool two_rows) {
  _mm512_mask_storeu_epi8(task->out + pixel * task->out_pixel, task->channels, bytes);
  if (two_rows) {
    uint8_t *lower = task->lower_out + pixel * task->out_pixel - HALF;
    _mm512_mask_storeu_epi8(lower, task->lower_channels, bytes);
  }
}

UF_INLINE void store_tile(const row_task *task, const uf_tile *tile, int pixels, bool two_rows, uf_form form) {
  const uf_clamp clamp = uf_load_clamp(task->block);
#define STORE(i) store_pixel(task, i, uf_row_bytes(&tile->r##i, &clamp, form), two_rows)
  UF_EACH_ROW(pixels, STORE);
#undef STORE
}

// Runs `tiles` tiles of `pixels` pixels. The task is left at what follows them.
UF_INLINE void run_tiles(row_task *task, int32_t tiles, int pixels, bool two_rows) {
  row_task own = *task;  // which no store can change
  uf_row left = load_column(&own, own.middle - 1, two_rows);
  do {
    uf_tile tile = uf_start_tile(own.block, UF_TILE_VECTORS);
#define DOT(i) dot_pixel(&tile.r##i, &left, &own, own.middle + STRIDE * i, two_rows)
    UF_EACH_ROW(pixels, DOT);
#undef DOT
    if (__builtin_expect(own.block->form == UF_ABSORBED, 1)) {
      uf_rescale_absorbed(&tile, own.block, pixels, UF_TILE_VECTORS, UF_ABSORBED);
      store_tile(&own, &tile, pixels, two_rows, UF_ABSORBED);
    } else {
      uf_rescale_other_forms(&tile, own.block, pixels, UF_TILE_VECTORS);
      store_tile(&own, &tile, pixels, two_rows, UF_BENT);
    }
    own.middle += STRIDE * pixels;
    own.out += pixels * own.out_pixel;
    own.lower_out += pixels * own.out_pixel;
  } while (--tiles != 0);
  *task = own;
}

// clang-format off
#define TILES(pixels) \
  static void run_tiles_##pixels##x1(row_task *task, int32_t tiles) { run_tiles(task, tiles, pixels, false); } \
  static void run_tiles_##pixels##x2(row_task *task, int32_t tiles) { run_tiles(task, tiles, pixels, true); }
TILES(1) TILES(2) TILES(3)

static void (*const kTiles[2][PIXELS])(row_task *, int32_t) = {
  {run_tiles_1x1, run_tiles_2x1, run_tiles_3x1}, {run_tiles_1x2, run_tiles_2x2, run_tiles_3x2}};
// clang-format on

static input_rows find_rows(const uf_node *node, int64_t sample, int32_t row, int32_t channel, const uint8_t *outside) {
  const uf_window *window = &node->params.linear.window;
  const uf_tensor *input = node->inputs[0];
  const int32_t height = input->shape[1], width = input->shape[2], channels = input->shape[3];
  input_rows rows;
  for (int32_t i = 0; i < SIZE; ++i) {
    const int32_t at = row * window->stride_h - window->pad_top + i;
    const bool inside = at >= 0 && at < height;
    rows.data[i] = inside ? input->data + (sample * height + at) * width * channels + channel : outside;
    rows.step[i] = inside ? channels : 0;
  }
  return rows;
}

// Output rows [row, row + rows) of one block, together or one by one.
static void run_rows(const uf_node *node, int64_t sample, int32_t row, int rows, int32_t block) {
  const uint8_t *outside = node->packed, *packed = outside + MARGIN_BYTES;
  const uf_tensor *output = node->output;
  const int32_t width = output->shape[2], channels = output->shape[3], channel = block * UF_TILE_CHANNELS;
  const bool together = block_channels(node, block) <= HALF;
  const uint64_t mask = uf_first_bytes(block_channels(node, block));
  for (int32_t done = 0; done < rows; done += together ? 2 : 1) {
    const int32_t upper = row + done, lower = upper + 1 < row + rows ? upper + 1 : upper;
    uint8_t *out = output->data + (sample * output->shape[1] + upper) * width * channels + channel;
    row_task task;
    task.block = (const uf_block *)(packed + (size_t)block * BLOCK_BYTES);
    task.upper = find_rows(node, sample, upper, channel, outside);
    if (together) task.lower = find_rows(node, sample, lower, channel, outside);
    task.outside = outside;
    task.middle = 1 - node->params.linear.window.pad_left;
    task.input_width = node->inputs[0]->shape[2];
    task.out = out;
    task.lower_out = out + (int64_t)(lower - upper) * width * channels;
    task.out_pixel = channels;
    task.channels = mask;
    task.lower_channels = mask << HALF;
    if (width >= PIXELS) kTiles[together][PIXELS - 1](&task, width / PIXELS);
    if (width % PIXELS > 0) kTiles[together][width % PIXELS - 1](&task, 1);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const int32_t rows = node->output->shape[1], pairs = (rows + 1) / 2, each = blocks(node);
  const uf_range share = uf_share((int64_t)node->output->shape[0] * pairs * each, 1, thread, threads);
  place_type place = place_at(share.begin, pairs, each);
  for (int64_t left = share.end - share.begin; left > 0; --left, move_on(&place)) {
    const int32_t row = place.row * 2;
    run_rows(node, place.sample, row, rows - row > 1 ? 2 : 1, place.block);
  }
}

const uf_kernel depthwise_conv2d__avx512vnni_stride2 = {
    .name = "depthwise_conv2d__avx512vnni_stride2",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
