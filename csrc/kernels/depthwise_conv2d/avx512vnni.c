// Depthwise convolution, one output channel for each input channel (C11, AVX-512 VNNI).
//
// A dot product takes four bytes, so four kernel rows of one column make a step. First the input rows under a band of
// output rows are *interleaved*, 64 channels at a time: each column becomes four vectors in which the four bytes of a
// lane are one channel's bytes in four rows. Then the band is a one-dimensional convolution over interleaved columns,
// each of which serves kernel_w pixels. A 3x3 kernel leaves a row of the four free: at stride 1 a band is two output
// rows, which see the same four input rows through weights shifted by a row.

#include "tile_avx512vnni.h"

enum {
  GROUP = 4,                                        // rows in a step
  COLUMN_BYTES = GROUP * UF_TILE_CHANNELS,          // an interleaved column of one group
  MARGIN_BYTES = UF_TILE_CHANNELS + UF_SLACK,       // zero points, read in place of a row outside of the image
  SCRATCH_BYTES = 16 << 10,                         // leaves half of the first cache to the rest
};

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  int32_t channels;
  int32_t band;       // output rows in a band: 1 or 2
  int32_t groups;     // of four rows
  int32_t width;      // output pixels in a row of interleaved columns
  size_t row_bytes;   // weights of one output row of the band
  size_t block_bytes;
} depthwise_plan;

static int32_t columns_under(const uf_window *window, int32_t pixels) {
  return (pixels - 1) * window->stride_w + (window->kernel_w - 1) * window->dilation_w + 1;
}

static depthwise_plan make_plan(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  depthwise_plan plan = {.window = window, .input = node->inputs[0], .output = node->output};
  plan.channels = plan.output->shape[3];
  plan.groups = (window->kernel_h + GROUP - 1) / GROUP;
  const bool spare_row = window->kernel_h < plan.groups * GROUP;
  plan.band = spare_row && window->stride_h == 1 && window->dilation_h == 1 ? 2 : 1;
  const int32_t columns = SCRATCH_BYTES / COLUMN_BYTES / plan.groups;
  const int32_t pixels = (columns - columns_under(window, 1)) / window->stride_w + 1;
  plan.width = pixels > UF_TILE_ROWS ? pixels / UF_TILE_ROWS * UF_TILE_ROWS : UF_TILE_ROWS;
  plan.row_bytes = (size_t)(window->kernel_w * plan.groups) * COLUMN_BYTES;
  plan.block_bytes = sizeof(uf_block) + (size_t)plan.band * plan.row_bytes;
  return plan;
}

static int32_t blocks_of(const depthwise_plan *plan) {
  return (plan->channels + UF_TILE_CHANNELS - 1) / UF_TILE_CHANNELS;
}

// ---- At load ---------------------------------------------------------------------------------------------------------

static bool supports(const uf_node *node) {
  return node->params.linear.weight_zero_point == 0 && node->output->shape[3] == node->inputs[0]->shape[3];
}

static size_t packed_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return MARGIN_BYTES + (size_t)blocks_of(&plan) * plan.block_bytes;
}

static size_t scratch_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return (size_t)(columns_under(plan.window, plan.width) * plan.groups) * COLUMN_BYTES;
}

// One channel's weights into its lane, for each row of the band: [band][kernel_w][groups][lanes][GROUP], zeroed before.
static uf_weight_sums pack_channel(const depthwise_plan *plan, const int8_t *weight, int lane, int8_t *packed) {
  const uf_window *window = plan->window;
  uf_weight_sums sums = {0, 0};
  for (int32_t i = 0; i < window->kernel_h; ++i) {
    for (int32_t j = 0; j < window->kernel_w; ++j) {
      const int8_t w = weight[(int64_t)(i * window->kernel_w + j) * plan->channels];
      for (int32_t row = 0; row < plan->band; ++row) {
        const int32_t step = j * plan->groups + (i + row) / GROUP;
        packed[(size_t)row * plan->row_bytes + (size_t)(step * COLUMN_BYTES + lane * GROUP + (i + row) % GROUP)] = w;
      }
      uf_add_weight(&sums, w);
    }
  }
  return sums;
}

static void pack(const uf_node *node, void *packed) {
  const uf_linear *linear = &node->params.linear;
  const depthwise_plan plan = make_plan(node);
  memset(packed, 0, packed_size(node));
  memset(packed, linear->input_zero_point, MARGIN_BYTES);
  uint8_t *block = (uint8_t *)packed + MARGIN_BYTES;
  for (int32_t first = 0; first < plan.channels; first += UF_TILE_CHANNELS, block += plan.block_bytes) {
    const int32_t left = plan.channels - first, count = left < UF_TILE_CHANNELS ? left : UF_TILE_CHANNELS;
    uf_weight_sums sums[UF_TILE_CHANNELS];
    for (int lane = 0; lane < UF_TILE_CHANNELS; ++lane) {
      const int c = uf_channel_of_lane(lane, UF_TILE_VECTORS);
      int8_t *weights = (int8_t *)block + sizeof(uf_block);
      if (c < count) sums[c] = pack_channel(&plan, linear->weight + first + c, lane, weights);
    }
    uf_pack_block(linear, first, count, sums, UF_TILE_VECTORS, (uf_block *)block);
  }
}

// ---- Interleaving ----------------------------------------------------------------------------------------------------

// Four vectors of 64 channels, a row each, to four vectors of lanes (uf_channel_of_lane's order).
UF_INLINE void interleave_column(const uint8_t *const *rows, const int64_t *at, uint8_t *column) {
  const __m512i a = _mm512_loadu_si512(rows[0] + at[0]), b = _mm512_loadu_si512(rows[1] + at[1]);
  const __m512i c = _mm512_loadu_si512(rows[2] + at[2]), d = _mm512_loadu_si512(rows[3] + at[3]);
  const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
  _mm512_store_si512(column, _mm512_unpacklo_epi16(ab_low, cd_low));
  _mm512_store_si512(column + 64, _mm512_unpackhi_epi16(ab_low, cd_low));
  _mm512_store_si512(column + 128, _mm512_unpacklo_epi16(ab_high, cd_high));
  _mm512_store_si512(column + 192, _mm512_unpackhi_epi16(ab_high, cd_high));
}

static void fill_column(uint8_t value, uint8_t *column) { memset(column, value, COLUMN_BYTES); }

// What a thread works on: a band of output rows, a block of channels, some pixels of each row.
typedef struct {
  int64_t sample;
  int32_t block, row;
  int32_t column, pixels;
} depthwise_span;

// Interleaves one group of four input rows. `outside` stands for rows above and below the image, and for spare rows.
static void interleave_group(const depthwise_plan *plan, const depthwise_span *span, int32_t group,
                             const uint8_t *outside, uint8_t *columns) {
  const uf_window *window = plan->window;
  const int32_t height = plan->input->shape[1], width = plan->input->shape[2];
  const int32_t left = span->column * window->stride_w - window->pad_left;
  const uint8_t *rows[GROUP];
  int64_t at[GROUP], step[GROUP];
  for (int32_t i = 0; i < GROUP; ++i) {
    const int32_t tap = group * GROUP + i;
    const int32_t row = span->row * window->stride_h - window->pad_top + tap * window->dilation_h;
    const bool inside = tap < window->kernel_h + plan->band - 1 && row >= 0 && row < height;
    const int64_t start = ((span->sample * height + row) * width + left) * plan->channels;
    rows[i] = inside ? plan->input->data : outside;
    at[i] = inside ? start + (int64_t)span->block * UF_TILE_CHANNELS : 0;
    step[i] = inside ? plan->channels : 0;
  }
  const int32_t end = left + columns_under(window, span->pixels);
  for (int32_t column = left; column < end; ++column, columns += (size_t)plan->groups * COLUMN_BYTES) {
    if (column < 0 || column >= width) {
      fill_column(outside[0], columns);
    } else {
      interleave_column(rows, at, columns);
    }
    for (int32_t i = 0; i < GROUP; ++i) at[i] += step[i];
  }
}

// ---- The kernel ------------------------------------------------------------------------------------------------------

typedef struct {
  const uf_block *block;   // its weights follow
  size_t row_bytes;        // from the weights of the first row of the band to those of the second
  int32_t kernel_w, groups;
  const uint8_t *columns;  // of the first pixel
  size_t tap_step, pixel_step;
  uint8_t *out;
  int64_t out_row, out_pixel;
  __mmask64 mask;
} depthwise_task;

// `pixels` columns of `band` rows; row `pixel * band + row` of the tile is an output pixel.
UF_INLINE void run_tile(const depthwise_task *task, int pixels, int band) {
  const uint8_t *w = (const uint8_t *)(task->block + 1), *tap = task->columns;
  uf_tile tile = uf_start_tile(task->block, UF_TILE_VECTORS);
  for (int32_t j = 0; j < task->kernel_w; ++j, tap += task->tap_step) {
    const uint8_t *columns = tap;
    for (int32_t group = 0; group < task->groups; ++group, columns += COLUMN_BYTES, w += COLUMN_BYTES) {
// One vector of every pixel: its weights and its columns are loaded once.
#define DOT(i, n)                                                                                             \
  tile.r##i.v##n = uf_dot4(tile.r##i.v##n, _mm512_load_si512(columns + i / band * task->pixel_step + 64 * n), \
                           i % band ? lower : upper)
#define DOT_0(i) DOT(i, 0)
#define DOT_1(i) DOT(i, 1)
#define DOT_2(i) DOT(i, 2)
#define DOT_3(i) DOT(i, 3)
#define DOT_COLUMN(n)                                                                         \
  do {                                                                                        \
    const __m512i upper = _mm512_load_si512(w + 64 * n);                                      \
    const __m512i lower = band > 1 ? _mm512_load_si512(w + task->row_bytes + 64 * n) : upper; \
    UF_EACH_ROW(pixels *band, DOT_##n);                                                       \
  } while (0)
      DOT_COLUMN(0);
      DOT_COLUMN(1);
      DOT_COLUMN(2);
      DOT_COLUMN(3);
    }
  }
  uint8_t *outs[UF_TILE_ROWS];
#pragma GCC unroll 6
  for (int i = 0; i < UF_TILE_ROWS; ++i) outs[i] = task->out + i % band * task->out_row + i / band * task->out_pixel;
  uf_finish_tile(&tile, task->block, pixels * band, UF_TILE_VECTORS, outs, task->mask);
}

#define TILE(pixels, band) \
  static void run_tile_##pixels##x##band(const depthwise_task *task) { run_tile(task, pixels, band); }
TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
TILE(1, 2) TILE(2, 2) TILE(3, 2)
static void (*const kTile[2][UF_TILE_ROWS])(const depthwise_task *) = {
    {run_tile_1x1, run_tile_2x1, run_tile_3x1, run_tile_4x1, run_tile_5x1, run_tile_6x1},
    {run_tile_1x2, run_tile_2x2, run_tile_3x2, NULL, NULL, NULL}};

// The pixels of a span, `band` rows of them, from their interleaved columns.
static void run_span(const depthwise_plan *plan, const depthwise_span *span, int32_t band, const uint8_t *packed,
                     const uint8_t *columns) {
  const uf_window *window = plan->window;
  const size_t column_step = (size_t)plan->groups * COLUMN_BYTES;
  const int64_t channel = (int64_t)span->block * UF_TILE_CHANNELS, width = plan->output->shape[2];
  const int64_t pixel = (span->sample * plan->output->shape[1] + span->row) * width + span->column;
  depthwise_task task = {
      .block = (const uf_block *)(packed + MARGIN_BYTES + (size_t)span->block * plan->block_bytes),
      .row_bytes = plan->row_bytes,
      .kernel_w = window->kernel_w,
      .groups = plan->groups,
      .columns = columns,
      .tap_step = (size_t)window->dilation_w * column_step,
      .pixel_step = (size_t)window->stride_w * column_step,
      .out = plan->output->data + pixel * plan->channels + channel,
      .out_row = width * plan->channels,
      .out_pixel = plan->channels,
      .mask = uf_channel_mask(plan->channels - channel),
  };
  const int32_t most = UF_TILE_ROWS / band;
  for (int32_t done = 0, count; done < span->pixels; done += count) {
    const int32_t left = span->pixels - done;
    count = left < most ? left : most;
    kTile[band - 1][count - 1](&task);
    task.columns += (size_t)count * task.pixel_step;
    task.out += count * task.out_pixel;
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const depthwise_plan plan = make_plan(node);
  const int32_t rows = plan.output->shape[1], width = plan.output->shape[2], blocks = blocks_of(&plan);
  const int32_t bands = (rows + plan.band - 1) / plan.band;
  uint8_t *columns = uf_scratch(node, thread);
  const uf_range share = uf_share((int64_t)plan.output->shape[0] * bands * blocks, 1, thread, threads);
  for (int64_t item = share.begin; item < share.end; ++item) {
    depthwise_span span = {.sample = item / blocks / bands, .block = (int32_t)(item % blocks)};
    span.row = (int32_t)(item / blocks % bands) * plan.band;
    const int32_t band = rows - span.row < plan.band ? rows - span.row : plan.band;
    for (; span.column < width; span.column += span.pixels) {
      span.pixels = width - span.column < plan.width ? width - span.column : plan.width;
      for (int32_t group = 0; group < plan.groups; ++group) {
        interleave_group(&plan, &span, group, node->packed, columns + (size_t)group * COLUMN_BYTES);
      }
      run_span(&plan, &span, band, node->packed, columns);
    }
  }
}

const uf_kernel depthwise_conv2d__avx512vnni = {
    .name = "depthwise_conv2d__avx512vnni",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
};
