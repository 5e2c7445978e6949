// Depthwise convolution, one output channel for each input channel (C11, AVX-512 VNNI).
//
// A dot product takes four bytes, so four kernel rows of one column make a step. First the input rows under a band of
// output rows are *interleaved*: in the lanes of the result, the four bytes are one channel's bytes in four rows. Then
// the band is a one-dimensional convolution over interleaved columns, each of which serves kernel_w pixels. A 3x3
// kernel leaves a row of the four free, a 5x5 kernel three of eight: where they are enough for the rows under the next
// output row, a band is two output rows, which see the same input rows through weights shifted by the stride. (Four
// output rows of a 5x5 kernel were no faster.) Where the last group has no more than two rows, as under a band of a 5x5
// kernel at stride 1, its lanes hold two neighbouring columns of them: three steps do for five columns.
//
// Interleaved columns lie in four planes, one for each vector of a row of a tile (tile_avx512vnni.h), so that 64 bytes
// from any column on are one pixel's 64 channels, or 2, 4 or 8 neighbouring pixels' 32, 16 or 8 channels. A quarter of
// a vector holds two pixels of 8 channels; their pairs of channels are shuffled first, so that each plane has some of
// every pixel. With a horizontal stride, the columns of neighbouring pixels are not neighbours: each remainder modulo
// the stride has planes of its own.

#include "../tile_avx512vnni.h"
#include "places.h"

enum {
  GROUP = 4,                                   // rows in a step
  STEP_BYTES = GROUP * UF_TILE_CHANNELS,       // a row of a tile, or its weights, in one step
  MARGIN_BYTES = UF_TILE_CHANNELS + UF_SLACK,  // zero points, read in place of a row outside of the image
  KINDS = 2,                                   // of blocks: the last one, and the others
  SCRATCH_STEPS = 64,                          // 16 KiB: leaves half of the first cache to the rest
  PAIRED = 8,                                  // channels of which two pixels fit a quarter of a vector
  PAIR = 2,                                    // rows of which a step can take two columns
};

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  int32_t channels, blocks;
  int32_t band;      // output rows in a band: 1 or 2
  int32_t groups;    // of four rows
  int32_t single;    // groups whose steps are one column each; there may be one more, of two columns
  int32_t steps;     // for one output row
  size_t row_bytes;  // weights of one output row of the band
  size_t block_bytes;
} depthwise_plan;

static int32_t divide_up(int32_t a, int32_t b) { return (a + b - 1) / b; }

// Pairs of columns of the window, of all remainders modulo the stride below `phase`.
static int32_t pairs_before(const uf_window *window, int32_t phase) {
  int32_t pairs = 0;
  for (int32_t i = 0; i < phase && i < window->kernel_w; ++i) {
    pairs += divide_up(divide_up(window->kernel_w - i, window->stride_w), PAIR);
  }
  return pairs;
}

static depthwise_plan make_plan(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  depthwise_plan plan = {.window = window, .input = node->inputs[0], .output = node->output};
  plan.channels = plan.output->shape[3];
  plan.blocks = divide_up(plan.channels, UF_TILE_CHANNELS);
  plan.groups = divide_up(window->kernel_h, GROUP);
  const bool spare_rows = window->kernel_h + window->stride_h <= plan.groups * GROUP;
  plan.band = spare_rows && window->dilation_h == 1 ? 2 : 1;
  const int32_t last_rows = window->kernel_h + (plan.band - 1) * window->stride_h - (plan.groups - 1) * GROUP;
  plan.single = last_rows <= PAIR && window->dilation_w == 1 ? plan.groups - 1 : plan.groups;
  plan.steps =
      window->kernel_w * plan.single + (plan.single < plan.groups ? pairs_before(window, window->stride_w) : 0);
  plan.row_bytes = (size_t)plan.steps * STEP_BYTES;
  plan.block_bytes = sizeof(uf_block) + (size_t)plan.band * plan.row_bytes;
  return plan;
}

// Channels of a pixel in a row of the block: 16, 32 or 64; or 8 where the image has no more.
static int32_t block_channels(const depthwise_plan *plan, int32_t block) {
  const int32_t left = plan->channels - block * UF_TILE_CHANNELS;
  return left > 32 ? 64 : left > 16 ? 32 : plan->channels == PAIRED ? PAIRED : 16;
}

// The interleaved columns of one block: [groups][stride_w][GROUP planes][columns][channels].
typedef struct {
  int32_t channels;            // of a pixel
  int32_t pixels;              // side by side in a row of a tile
  int32_t width;               // output pixels of a row that are computed at once
  int32_t halo;                // columns of a phase that a pixel sees besides its first
  size_t plane, phase, group;  // distances in bytes
} plane_layout;

static plane_layout layout_for(const depthwise_plan *plan, int32_t channels) {
  const uf_window *window = plan->window;
  plane_layout layout = {.channels = channels, .pixels = UF_TILE_CHANNELS / channels};
  const int32_t tile = UF_TILE_ROWS / plan->band * layout.pixels;
  const int32_t columns = SCRATCH_STEPS / (plan->groups * window->stride_w) * layout.pixels;
  layout.halo = (window->kernel_w - 1) * window->dilation_w / window->stride_w;
  layout.width = columns - layout.halo > tile ? (columns - layout.halo) / tile * tile : tile;
  const int32_t vectors = divide_up(layout.width + layout.halo, layout.pixels) + 1;
  layout.plane = (size_t)(vectors | 1) * UF_TILE_CHANNELS;  // odd: planes must not fall on the same cache sets
  layout.phase = GROUP * layout.plane;
  layout.group = (size_t)window->stride_w * layout.phase;
  return layout;
}

// The step, from the first one of a pixel, that a column of a group belongs to: where it finds its columns, and the
// byte of a lane that the group's first row is in.
typedef struct {
  int32_t step;
  int32_t phase, column;  // the first column: of those with this remainder modulo the stride
  int32_t byte;
} step_place;

static step_place find_step(const depthwise_plan *plan, int32_t group, int32_t tap) {
  const int32_t at = tap * plan->window->dilation_w, stride = plan->window->stride_w;
  const int32_t phase = at % stride, column = at / stride;
  if (group < plan->single) return (step_place){tap * plan->single + group, phase, column, 0};
  const int32_t before = plan->window->kernel_w * plan->single + pairs_before(plan->window, phase);
  return (step_place){before + column / PAIR, phase, column / PAIR * PAIR, column % PAIR * PAIR};
}

// Where the steps of a pixel find their columns, from the pixel's first one on.
static void find_offsets(const depthwise_plan *plan, const plane_layout *layout, size_t *offsets) {
  for (int32_t j = 0; j < plan->window->kernel_w; ++j) {
    for (int32_t group = 0; group < plan->groups; ++group) {
      const step_place place = find_step(plan, group, j);
      offsets[place.step] = (size_t)group * layout->group + (size_t)place.phase * layout->phase +
                            (size_t)(place.column * layout->channels);
    }
  }
}

static size_t offsets_bytes(const depthwise_plan *plan) {
  return ((size_t)plan->steps * sizeof(size_t) + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
}

// --- At load. ---

static bool supports(const uf_node *node) {
  return node->params.linear.weight_zero_point == 0 && node->output->shape[3] == node->inputs[0]->shape[3];
}

static size_t packed_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return MARGIN_BYTES + (size_t)plan.blocks * plan.block_bytes;
}

static size_t scratch_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  size_t most = 0;
  for (int32_t channels = PAIRED; channels <= UF_TILE_CHANNELS; channels *= 2) {
    const size_t size = (size_t)plan.groups * layout_for(&plan, channels).group;
    most = size > most ? size : most;
  }
  return KINDS * offsets_bytes(&plan) + most;
}

// One lane's weights, for each row of the band: [band][steps][lanes][GROUP].
static void pack_lane(const depthwise_plan *plan, const int8_t *weight, int lane, int8_t *packed) {
  const uf_window *window = plan->window;
  for (int32_t row = 0; row < plan->band; ++row) {
    for (int32_t i = 0; i < window->kernel_h; ++i) {
      for (int32_t j = 0; j < window->kernel_w; ++j) {
        const int32_t below = row * window->stride_h + i;
        const step_place place = find_step(plan, below / GROUP, j);
        const int32_t byte = lane * GROUP + place.byte + below % GROUP;
        packed[(size_t)row * plan->row_bytes + (size_t)(place.step * STEP_BYTES + byte)] =
            weight[(int64_t)(i * window->kernel_w + j) * plan->channels];
      }
    }
  }
}

// Each lane's channel.
static uf_lane_map lane_map(int32_t channels) {
  uf_lane_map map = uf_quarter_order(channels);
  for (int lane = 0; channels == PAIRED && lane < map.lanes; ++lane) {
    map.channel[lane] = (uint8_t)(lane / 16 * 2 + lane % 2);
  }
  return map;
}

static void pack_block(const depthwise_plan *plan, const uf_linear *linear, int32_t block, uint8_t *packed) {
  const int32_t first = block * UF_TILE_CHANNELS, left = plan->channels - first;
  const int count = left < UF_TILE_CHANNELS ? left : UF_TILE_CHANNELS;
  const uf_lane_map map = lane_map(block_channels(plan, block));
  uf_weight_sums sums[UF_TILE_CHANNELS];
  const int64_t taps = (int64_t)plan->window->kernel_h * plan->window->kernel_w;
  for (int c = 0; c < count; ++c) sums[c] = uf_sum_weights(linear->weight + first + c, taps, plan->channels);
  for (int lane = 0; lane < map.lanes; ++lane) {
    const int c = map.channel[lane];
    if (c < count) pack_lane(plan, linear->weight + first + c, lane, (int8_t *)packed + sizeof(uf_block));
  }
  uf_pack_block(linear, first, count, sums, &map, (uf_block *)packed);
}

static void pack(const uf_node *node, void *packed) {
  const depthwise_plan plan = make_plan(node);
  uint8_t *blocks = (uint8_t *)packed + MARGIN_BYTES;
  memset(packed, node->params.linear.input_zero_point, MARGIN_BYTES);
  for (int32_t block = 0; block < plan.blocks; ++block) {
    pack_block(&plan, &node->params.linear, block, blocks + (size_t)block * plan.block_bytes);
  }
}

// --- Interleaving. ---

// Two pixels of 8 channels in each quarter, their pairs of channels in turns.
UF_INLINE __m512i pair_up(__m512i pixels) {
  const __m128i order = _mm_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
  return _mm512_shuffle_epi8(pixels, _mm512_broadcast_i32x4(order));
}

// And back.
UF_INLINE __m512i pair_off(__m512i pairs) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  return _mm512_shuffle_epi8(pairs, _mm512_broadcast_i32x4(order));
}

// Bytes of 64 / channels pixels, `step` apart, side by side.
UF_INLINE __m512i gather_pixels(const uint8_t *x, int64_t step, int channels) {
  if (channels == 64) return _mm512_loadu_si512(x);
  if (channels == 32) {
    const __m256i a = _mm256_loadu_si256((const void *)x), b = _mm256_loadu_si256((const void *)(x + step));
    return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  }
  if (channels == PAIRED) {
    const __m512i steps = _mm512_mullo_epi64(_mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), _mm512_set1_epi64(step));
    return _mm512_i64gather_epi64(steps, x, 1);
  }
  const __m128i a = _mm_loadu_si128((const void *)x), b = _mm_loadu_si128((const void *)(x + step));
  const __m128i c = _mm_loadu_si128((const void *)(x + 2 * step)), d = _mm_loadu_si128((const void *)(x + 3 * step));
  const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(a), b, 1);
  const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(c), d, 1);
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

// A row of the image, or zero points: pixel p of it is at data + p * step.
typedef struct {
  const uint8_t *data;
  int64_t step;
} source_row;

// Interleaves four rows of pixels into the four planes.
UF_INLINE void interleave(__m512i a, __m512i b, __m512i c, __m512i d, int channels, size_t plane, uint8_t *out) {
  if (channels == PAIRED) a = pair_up(a), b = pair_up(b), c = pair_up(c), d = pair_up(d);
  const __m512i ab_low = _mm512_unpacklo_epi8(a, b), ab_high = _mm512_unpackhi_epi8(a, b);
  const __m512i cd_low = _mm512_unpacklo_epi8(c, d), cd_high = _mm512_unpackhi_epi8(c, d);
  _mm512_storeu_si512(out, _mm512_unpacklo_epi16(ab_low, cd_low));
  _mm512_storeu_si512(out + plane, _mm512_unpackhi_epi16(ab_low, cd_low));
  _mm512_storeu_si512(out + 2 * plane, _mm512_unpacklo_epi16(ab_high, cd_high));
  _mm512_storeu_si512(out + 3 * plane, _mm512_unpackhi_epi16(ab_high, cd_high));
}

// Interleaves pixels [begin, end), of `channels` each; where they are neighbours in the image too, 64 bytes at once.
UF_INLINE void interleave_run(const source_row *rows, int32_t begin, int32_t end, int channels, bool dense,
                              size_t plane, uint8_t *out) {
  const int pixels = UF_TILE_CHANNELS / channels, loaded = dense ? UF_TILE_CHANNELS : channels;
  const int64_t as = rows[0].step, bs = rows[1].step, cs = rows[2].step, ds = rows[3].step;
  const uint8_t *a = rows[0].data + begin * as, *b = rows[1].data + begin * bs;
  const uint8_t *c = rows[2].data + begin * cs, *d = rows[3].data + begin * ds;
  int32_t at = begin;
  out += begin * channels;
  for (; at + pixels <= end; at += pixels, out += UF_TILE_CHANNELS) {
    interleave(gather_pixels(a, as, loaded), gather_pixels(b, bs, loaded), gather_pixels(c, cs, loaded),
               gather_pixels(d, ds, loaded), channels, plane, out);
    a += pixels * as, b += pixels * bs, c += pixels * cs, d += pixels * ds;
  }
  // Singly, as reading several would leave the row; what is written beyond the pixel is written again or not read.
  for (; at < end; ++at, out += channels) {
    interleave(_mm512_loadu_si512(a), _mm512_loadu_si512(b), _mm512_loadu_si512(c), _mm512_loadu_si512(d), channels,
               plane, out);
    a += as, b += bs, c += cs, d += ds;
  }
}

// Functions of their own, for the sake of their registers.
typedef void (*interleaver)(const source_row *rows, int32_t begin, int32_t end, size_t plane, uint8_t *out);
#define INTERLEAVE(name, channels, dense)                                                                     \
  static __attribute__((noinline)) void interleave_##name(const source_row *rows, int32_t begin, int32_t end, \
                                                          size_t plane, uint8_t *out) {                       \
    interleave_run(rows, begin, end, channels, dense, plane, out);                                            \
  }
INTERLEAVE(dense_8, PAIRED, true)
INTERLEAVE(dense_16, 16, true)
INTERLEAVE(dense_32, 32, true)
INTERLEAVE(8, PAIRED, false)
INTERLEAVE(16, 16, false)
INTERLEAVE(32, 32, false)
INTERLEAVE(64, 64, true)

static interleaver interleaver_for(const depthwise_plan *plan, int32_t channels) {
  const bool dense = plan->channels == channels && plan->window->stride_w == 1;
  if (channels == 64) return interleave_64;
  if (channels == 32) return dense ? interleave_dense_32 : interleave_32;
  if (channels == 16) return dense ? interleave_dense_16 : interleave_16;
  return dense ? interleave_dense_8 : interleave_8;
}

// What a thread works on: a band of output rows, a block of channels, some pixels of each row.
typedef struct {
  int64_t sample;
  int32_t block, row;
  int32_t column, pixels;
} depthwise_span;

// One group of input rows from column `left` on, every stride_w-th. `outside` stands for rows above and below the
// image, and for spare rows.
static void find_rows(const depthwise_plan *plan, const depthwise_span *span, int32_t group, int32_t left,
                      const uint8_t *outside, source_row *rows) {
  const uf_window *window = plan->window;
  const int32_t height = plan->input->shape[1], width = plan->input->shape[2];
  for (int32_t i = 0; i < GROUP; ++i) {
    const int32_t tap = group * GROUP + i;
    const int32_t row = span->row * window->stride_h - window->pad_top + tap * window->dilation_h;
    const bool seen = tap < window->kernel_h + (plan->band - 1) * window->stride_h;
    const bool inside = seen && row >= 0 && row < height;
    const int64_t pixel = (span->sample * height + row) * width + left;
    const source_row image = {plan->input->data + pixel * plan->channels + (int64_t)span->block * UF_TILE_CHANNELS,
                              (int64_t)plan->channels * window->stride_w};
    const source_row padding = {outside, 0};
    rows[i] = inside ? image : padding;
  }
}

// Zero points in columns [begin, end) of the planes, and beyond: columns of the image are written afterwards, and
// behind the last one there is room.
static void fill_columns(const plane_layout *layout, int32_t begin, int32_t end, uint8_t value, uint8_t *out) {
  const __m512i bytes = _mm512_set1_epi8((char)value);
  for (int plane = 0; plane < GROUP; ++plane, out += layout->plane) {
    for (int32_t at = begin; at < end; at += layout->pixels) {
      _mm512_storeu_si512(out + at * layout->channels, bytes);
    }
  }
}

// How many of the columns left, left + stride, ... lie before column `bound`, at most `count`.
static int32_t columns_before(int32_t left, int32_t bound, int32_t stride, int32_t count) {
  if (left >= bound) return 0;
  return left + (count - 1) * stride < bound ? count : divide_up(bound - left, stride);
}

// Interleaves two rows of columns [begin - 1, end), each beside the same rows of the column behind it. Those before
// `begin` and from `end` on are outside of the image, or meet no weight; all are if begin == end.
static void interleave_pairs(const source_row *rows, int32_t begin, int32_t end, interleaver interleave,
                             const uint8_t *outside, size_t plane, uint8_t *out) {
  const source_row upper = rows[0], lower = rows[1], padding = {outside, 0};
  const source_row next_upper = {upper.data + upper.step, upper.step};
  const source_row next_lower = {lower.data + lower.step, lower.step};
  const bool any = begin < end;
  const source_row first[GROUP] = {padding, padding, any ? next_upper : padding, any ? next_lower : padding};
  const source_row middle[GROUP] = {upper, lower, next_upper, next_lower};
  const source_row last[GROUP] = {upper, lower, padding, padding};
  if (begin > 0) interleave(first, begin - 1, begin, plane, out);
  if (!any) return;
  interleave(middle, begin, end - 1, plane, out);
  interleave(last, end - 1, end, plane, out);
}

// Interleaves one group of rows, the columns of one remainder modulo the stride.
static void interleave_phase(const depthwise_plan *plan, const plane_layout *layout, const depthwise_span *span,
                             int32_t group, int32_t phase, const uint8_t *outside, uint8_t *out) {
  const int32_t stride = plan->window->stride_w, count = span->pixels + layout->halo;
  const int32_t left = span->column * stride - plan->window->pad_left + phase;
  const int32_t begin = columns_before(left, 0, stride, count);
  const int32_t end = columns_before(left, plan->input->shape[2], stride, count);
  source_row rows[GROUP];
  find_rows(plan, span, group, left, outside, rows);
  const interleaver interleave = interleaver_for(plan, layout->channels);
  if (group < plan->single) {
    fill_columns(layout, 0, begin, outside[0], out);
    interleave(rows, begin, end, layout->plane, out);
  } else {
    fill_columns(layout, 0, begin - 1, outside[0], out);
    interleave_pairs(rows, begin, end, interleave, outside, layout->plane, out);
  }
  fill_columns(layout, end, count, outside[0], out);
}

static void interleave_span(const depthwise_plan *plan, const plane_layout *layout, const depthwise_span *span,
                            const uint8_t *outside, uint8_t *columns) {
  for (int32_t group = 0; group < plan->groups; ++group) {
    for (int32_t phase = 0; phase < plan->window->stride_w; ++phase) {
      uint8_t *out = columns + (size_t)group * layout->group + (size_t)phase * layout->phase;
      interleave_phase(plan, layout, span, group, phase, outside, out);
    }
  }
}

// --- The kernel. ---

typedef struct {
  const uf_block *block;  // its weights follow
  size_t row_bytes;       // from the weights of the first row of the band to those of the second
  const size_t *offsets;  // of each step, from `columns`
  int32_t steps;
  const uint8_t *columns;  // under the first pixel
  size_t plane;
  uint8_t *out;  // of the first pixel
  int64_t out_row, out_pixel;
  int32_t spacing;           // of pixels in a row of the tile: its channels
  int32_t pixels, channels;  // to be stored
} tile_task;

// Stores the pixels of a row that exist.
UF_INLINE void store_row(const tile_task *task, __m512i bytes, int row, int column) {
  const int32_t spacing = task->spacing, first = column * (UF_TILE_CHANNELS / spacing), left = task->pixels - first;
  uint8_t *out = task->out + row * task->out_row + first * task->out_pixel;
  if (spacing == UF_TILE_CHANNELS) {
    _mm512_mask_storeu_epi8(out, uf_first_bytes(task->channels), bytes);
  } else if (spacing == task->out_pixel) {
    _mm512_mask_storeu_epi8(out, uf_first_bytes(left * spacing), spacing == PAIRED ? pair_off(bytes) : bytes);
  } else {
    for (int p = 0; p < UF_TILE_CHANNELS / spacing && p < left; ++p) {
      const __mmask64 mask = uf_first_bytes(task->channels) << (p * spacing);
      _mm512_mask_storeu_epi8(out + p * (task->out_pixel - spacing), mask, bytes);
    }
  }
}

UF_INLINE void store_tile(const tile_task *task, const uf_tile *tile, int rows, int band, uf_form form) {
  const uf_clamp clamp = uf_load_clamp(task->block);
#define STORE(i) store_row(task, uf_row_bytes(&tile->r##i, &clamp, form), i % band, i / band)
  UF_EACH_ROW(rows, STORE);
#undef STORE
}

// Runs tiles side by side, each of `columns` rows in each of `band` output rows: row r of a tile is in output row
// r % band. The task is left at what follows them.
UF_INLINE void run_tiles(tile_task *task, int32_t tiles, int columns, int band) {
  tile_task own = *task;  // which no store can change
  const size_t plane = own.plane, row_bytes = own.row_bytes;
  const int rows = columns * band;
  const uf_block *block = own.block;
  const size_t *const offsets = own.offsets, *const end = offsets + own.steps;
  do {
    const uint8_t *w = (const uint8_t *)(block + 1);
    const uint8_t *const first = own.columns;
    uf_tile tile = uf_start_tile(block, UF_TILE_VECTORS);
    const size_t *offset = offsets;
    do {  // there is a step; a loop that said otherwise would make gcc 12 copy accumulators
      const uint8_t *x = first + *offset, *w2 = w + row_bytes;
// One vector of every row: its weights are loaded once, and so are the columns that the rows of a band share.
#define COLUMN(i) _mm512_loadu_si512(x + i / band * UF_TILE_CHANNELS)
#define WEIGHT(i) (i % band ? lower : upper)
#define DOT(n, i) tile.r##i.v##n = uf_dot4(tile.r##i.v##n, COLUMN(i), WEIGHT(i))
#define DOT_0(i) DOT(0, i)
#define DOT_1(i) DOT(1, i)
#define DOT_2(i) DOT(2, i)
#define DOT_3(i) DOT(3, i)
// Four rows in one statement, in which gcc 12 would else put copies.
#define DOT_FOUR(n)                                                                                          \
  do {                                                                                                       \
    uf_row t = {tile.r0.v##n, tile.r1.v##n, tile.r2.v##n, tile.r3.v##n};                                     \
    uf_dot4_row(&t, COLUMN(0), WEIGHT(0), COLUMN(1), WEIGHT(1), COLUMN(2), WEIGHT(2), COLUMN(3), WEIGHT(3)); \
    tile.r0.v##n = t.v0, tile.r1.v##n = t.v1, tile.r2.v##n = t.v2, tile.r3.v##n = t.v3;                      \
  } while (0)
#define DOT_COLUMN(n)                                                                \
  do {                                                                               \
    const __m512i upper = uf_own(_mm512_load_si512(w + 64 * n));                     \
    const __m512i lower = band > 1 ? uf_own(_mm512_load_si512(w2 + 64 * n)) : upper; \
    if (rows == 4) DOT_FOUR(n);                                                      \
    if (rows != 4) UF_EACH_ROW(rows, DOT_##n);                                       \
    x = uf_own_pointer(x + plane);                                                   \
  } while (0)
      DOT_COLUMN(0);
      DOT_COLUMN(1);
      DOT_COLUMN(2);
      DOT_COLUMN(3);
      w += STEP_BYTES;
    } while (++offset != end);
    if (__builtin_expect(block->form == UF_ABSORBED, 1)) {
      uf_rescale_absorbed(&tile, block, rows, UF_TILE_VECTORS, UF_ABSORBED);
      store_tile(&own, &tile, rows, band, UF_ABSORBED);
    } else {
      uf_rescale_other_forms(&tile, block, rows, UF_TILE_VECTORS);
      store_tile(&own, &tile, rows, band, UF_BENT);
    }
    const int32_t pixels = columns * (UF_TILE_CHANNELS / own.spacing);
    own.columns += columns * UF_TILE_CHANNELS;
    own.out += pixels * own.out_pixel;
    own.pixels -= pixels;
  } while (--tiles != 0);
  *task = own;
}

// clang-format off
#define TILES(columns, band) \
  static void run_tiles_##columns##x##band(tile_task *task, int32_t tiles) { run_tiles(task, tiles, columns, band); }
TILES(1, 1) TILES(2, 1) TILES(3, 1) TILES(4, 1) TILES(5, 1) TILES(6, 1)
TILES(1, 2) TILES(2, 2) TILES(3, 2)

static void (*const kTiles[2][UF_TILE_ROWS])(tile_task *, int32_t) = {
  {run_tiles_1x1, run_tiles_2x1, run_tiles_3x1, run_tiles_4x1, run_tiles_5x1, run_tiles_6x1},
  {run_tiles_1x2, run_tiles_2x2, run_tiles_3x2, NULL, NULL, NULL}};
// clang-format on

// The pixels of a span, in `band` rows, from their interleaved columns.
static void run_span(const depthwise_plan *plan, const plane_layout *layout, const depthwise_span *span, int32_t band,
                     const uint8_t *blocks, const size_t *offsets, const uint8_t *columns) {
  const int64_t width = plan->output->shape[2], channel = (int64_t)span->block * UF_TILE_CHANNELS;
  const int64_t pixel = (span->sample * plan->output->shape[1] + span->row) * width + span->column;
  tile_task task = {
      .block = (const uf_block *)(blocks + (size_t)span->block * plan->block_bytes),
      .row_bytes = plan->row_bytes,
      .offsets = offsets,
      .steps = plan->steps,
      .columns = columns,
      .plane = layout->plane,
      .out = plan->output->data + pixel * plan->channels + channel,
      .out_row = width * plan->channels,
      .out_pixel = plan->channels,
      .spacing = layout->channels,
      .pixels = span->pixels,
      .channels = (int32_t)(plan->channels - channel),
  };
  // Tiles as even as can be: first the greater ones, then those of a row less.
  const int32_t rows = divide_up(span->pixels, layout->pixels), tiles = divide_up(rows, UF_TILE_ROWS / band);
  const int32_t least = rows / tiles, greater = rows % tiles;
  if (greater > 0) kTiles[band - 1][least](&task, greater);
  kTiles[band - 1][least - 1](&task, tiles - greater);
}

static void run(const uf_node *node, int thread, int threads) {
  const depthwise_plan plan = make_plan(node);
  const plane_layout layouts[KINDS] = {layout_for(&plan, UF_TILE_CHANNELS),
                                       layout_for(&plan, block_channels(&plan, plan.blocks - 1))};
  const uint8_t *outside = node->packed, *blocks = outside + MARGIN_BYTES;
  uint8_t *scratch = uf_scratch(node, thread), *columns = scratch + KINDS * offsets_bytes(&plan);
  size_t *const offsets[KINDS] = {(size_t *)(void *)scratch, (size_t *)(void *)(scratch + offsets_bytes(&plan))};
  for (int kind = 0; kind < KINDS; ++kind) find_offsets(&plan, &layouts[kind], offsets[kind]);

  const int32_t rows = plan.output->shape[1], width = plan.output->shape[2], bands = divide_up(rows, plan.band);
  const uf_range share = uf_share((int64_t)plan.output->shape[0] * bands * plan.blocks, 1, thread, threads);
  place_type place = place_at(share.begin, bands, plan.blocks);
  for (int64_t items = share.end - share.begin; items > 0; --items, move_on(&place)) {
    depthwise_span span = {.sample = place.sample, .block = place.block, .row = place.row * plan.band};
    const int kind = span.block == plan.blocks - 1;
    const int32_t band = rows - span.row < plan.band ? rows - span.row : plan.band;
    for (; span.column < width; span.column += span.pixels) {
      const int32_t left = width - span.column;
      span.pixels = left < layouts[kind].width ? left : layouts[kind].width;
      interleave_span(&plan, &layouts[kind], &span, outside, columns);
      run_span(&plan, &layouts[kind], &span, band, blocks, offsets[kind], columns);
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
