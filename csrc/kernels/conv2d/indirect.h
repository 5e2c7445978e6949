// Convolution as an indirect matrix product (gemm/gemm.h): a row is an output pixel, a run is a tap's channels.
//
// With few input channels (a network's first layer) a run of one tap would waste most of each 4-byte step, so a run is
// a whole kernel row, kernel_w * channels bytes, read from copies of the image's rows that have their padding. The same
// serves narrow outputs, where a level would spend more time on pointers to runs than on the runs.

#include <string.h>

#include "../gemm/gemm.h"

// Rows that make whole tiles: at all levels but one.
#ifndef UF_GEMM_TILE
#define UF_GEMM_TILE 24
#endif

enum {
  ROWS_OF_A_TILE = 6,
  PANEL_GRAIN = UF_GEMM_TILE,
  PANEL_LIMIT = 5 * PANEL_GRAIN,
  EVEN_PANEL_LIMIT = 20 * PANEL_GRAIN,  // where few pointers are made
};

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  uf_gemm_shape shape;  // of one group
  int64_t groups;
  bool whole_rows;      // runs are kernel rows
  bool same_pixels;     // a pixel of the output is one of the input
  int64_t run;          // bytes of a run, of all groups
  bool words;           // and of words
  int64_t row_bytes;    // of a padded row, 0 without whole_rows
  int64_t copy_bytes;   // of its copy
  int64_t panel;        // output pixels whose pointers are made at once, and the table's stride
  size_t margin_bytes;  // of the run of zero points at the start of the packed memory
} conv_plan;

// Of an input in a run.
static int64_t input_bytes(const conv_plan *plan) { return plan->words ? (int64_t)sizeof(int16_t) : 1; }

static int64_t round_up(int64_t a, int64_t b) { return (a + b - 1) / b * b; }

// Pixels for which input, output and pointers stay in the first cache; in the second where reading or unpacking the
// weights once for each panel would take longer than the rest.
static int64_t panel_size(const conv_plan *plan) {
  const int64_t small = 16 << 10, large = 512 << 10;
  const uf_gemm_shape *shape = &plan->shape;
  const int64_t weights = plan->groups * shape->channels * shape->taps * shape->depth;
  const int64_t stride = plan->window->stride_h * plan->window->stride_w;
  const int64_t pixel_bytes = plan->input->shape[3] * stride + plan->output->shape[3];
  const int64_t by_bytes = (weights <= 256 << 10 && !UF_GEMM.long_panels ? small : large) / pixel_bytes;
  const int64_t by_table = small / (int64_t)(sizeof(uint8_t *) * shape->taps);
  const int64_t most = by_bytes < by_table ? by_bytes : by_table;
  const int64_t limit =
      UF_GEMM.long_panels || (UF_GEMM.takes_even && plan->same_pixels) ? EVEN_PANEL_LIMIT : PANEL_LIMIT;
  return most < PANEL_GRAIN ? PANEL_GRAIN : most > limit ? limit : most / PANEL_GRAIN * PANEL_GRAIN;
}

static conv_plan make_plan(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  conv_plan plan = {.window = window, .input = node->inputs[0], .output = node->output, .groups = linear->groups};
  const int64_t depth = plan.input->shape[3] / plan.groups, channels = plan.output->shape[3] / plan.groups;
  const bool shallow = depth < 16 || (UF_GEMM.takes_even && depth <= 64 && channels <= 16);
  plan.whole_rows = plan.groups == 1 && window->dilation_w == 1 && window->kernel_w > 1 && shallow;
  plan.words = plan.whole_rows && UF_GEMM.widen != NULL;
  const uf_gemm_shape whole = {channels, window->kernel_h, window->kernel_w * depth};
  const uf_gemm_shape single = {channels, (int64_t)window->kernel_h * window->kernel_w, depth};
  plan.shape = plan.whole_rows ? whole : single;
  plan.same_pixels = plan.shape.taps == 1 && window->stride_h == 1 && window->stride_w == 1 && window->pad_top == 0 &&
                     window->pad_left == 0 && plan.input->shape[1] == plan.output->shape[1] &&
                     plan.input->shape[2] == plan.output->shape[2];
  plan.run = plan.shape.depth * plan.groups;
  // A share may begin at any pixel, the last one of a row too, and pixels are read UF_GEMM_GRAIN at a time.
  const int64_t last_read = plan.output->shape[2] - 1 + UF_GEMM_GRAIN - 1;
  const int64_t steps = last_read * window->stride_w * depth;
  plan.row_bytes = plan.whole_rows ? round_up(steps + plan.run + UF_SLACK, UF_ALIGNMENT) : 0;
  plan.copy_bytes = plan.row_bytes * input_bytes(&plan);
  plan.margin_bytes = (size_t)round_up(plan.run * input_bytes(&plan) + UF_SLACK, UF_ALIGNMENT);
  plan.panel = panel_size(&plan);
  return plan;
}

// --- At load. ---

static bool supports(const uf_node *node) {
  const conv_plan plan = make_plan(node);
  return uf_gemm_takes(&UF_GEMM, &plan.shape, plan.groups, &node->params.linear);
}

static size_t packed_size(const uf_node *node) {
  const conv_plan plan = make_plan(node);
  return plan.margin_bytes + (size_t)plan.groups * UF_GEMM.packed_size(&plan.shape);
}

static void pack(const uf_node *node, void *packed) {
  const conv_plan plan = make_plan(node);
  uint8_t *block = (uint8_t *)packed + plan.margin_bytes;
  memset(packed, node->params.linear.input_zero_point, plan.margin_bytes);
  for (int64_t group = 0; group < plan.groups; ++group, block += UF_GEMM.packed_size(&plan.shape)) {
    UF_GEMM.pack(&node->params.linear, &plan.shape, group * plan.shape.channels, block);
  }
}

static size_t table_bytes(const conv_plan *plan) {
  return (size_t)round_up(plan->shape.taps * plan->panel * (int64_t)sizeof(uint8_t *), UF_ALIGNMENT);
}

// Scratch holds the table, what the product asks for, which is nothing where it is given words, the copies, and a row
// on its way to words.
static size_t copies_offset(const conv_plan *plan) {
  return table_bytes(plan) + (plan->words ? 0 : uf_gemm_scratch(&UF_GEMM, &plan->shape));
}

static size_t scratch_size(const uf_node *node) {
  const conv_plan plan = make_plan(node);
  const int64_t spare = plan.words ? plan.row_bytes : 0;
  return copies_offset(&plan) + (size_t)(plan.copy_bytes * plan.window->kernel_h + spare);
}

// --- Pointers. ---

// Output pixels [column, column + count) of one row.
typedef struct {
  int64_t sample;
  int32_t row, column, count;
} conv_segment;

// The segment that begins at that pixel of the batch, of at most `most` pixels.
static conv_segment segment_at(const conv_plan *plan, int64_t pixel, int64_t most) {
  const int64_t columns = plan->output->shape[2], rows = plan->output->shape[1], column = pixel % columns;
  const int64_t count = columns - column < most ? columns - column : most;
  const conv_segment segment = {pixel / columns / rows, (int32_t)(pixel / columns % rows), (int32_t)column,
                                (int32_t)count};
  return segment;
}

static const uint8_t *image_row(const conv_plan *plan, int64_t sample, int32_t row) {
  const uf_tensor *input = plan->input;
  return input->data + (sample * input->shape[1] + row) * (int64_t)input->shape[2] * input->shape[3];
}

// Pointers of one tap for a segment, to the image or, outside of it, to zero points.
static void point_at_tap(const conv_plan *plan, const uint8_t *line, int32_t column, int32_t count,
                         const uint8_t *outside, const uint8_t **table) {
  const int32_t stride = plan->window->stride_w;
  const uint32_t width = (uint32_t)plan->input->shape[2];
  const int64_t depth = plan->input->shape[3];
  for (int32_t i = 0; i < count; ++i) {
    const int32_t at = column + i * stride;
    table[i] = (uint32_t)at < width ? line + at * depth : outside;
  }
}

static void point_at_segment(const conv_plan *plan, const conv_segment *segment, const uint8_t *outside,
                             const uint8_t **table) {
  const uf_window *window = plan->window;
  for (int32_t i = 0; i < window->kernel_h; ++i) {
    const int32_t row = segment->row * window->stride_h - window->pad_top + i * window->dilation_h;
    const bool inside = row >= 0 && row < plan->input->shape[1];
    const uint8_t *line = inside ? image_row(plan, segment->sample, row) : NULL;
    for (int32_t j = 0; j < window->kernel_w; ++j, table += plan->panel) {
      const int32_t column = segment->column * window->stride_w - window->pad_left + j * window->dilation_w;
      // A column left of every image makes all pixels padding.
      point_at_tap(plan, line, inside ? column : INT32_MIN / 2, segment->count, outside, table);
    }
  }
}

// Fills the table of `count` pixels.
static void point_at_windows(const conv_plan *plan, int64_t first, int64_t count, const uint8_t *outside,
                             const uint8_t **table) {
  for (int64_t done = 0; done < count;) {
    const conv_segment segment = segment_at(plan, first + done, count - done);
    point_at_segment(plan, &segment, outside, table + done);
    done += segment.count;
  }
}

// Copies an input row, with zero points to the left and right of the image; a row outside of it is nothing but those.
static void copy_row(const conv_plan *plan, int64_t sample, int32_t row, uint8_t zero_point, uint8_t *copy) {
  const int64_t depth = plan->input->shape[3], width = plan->input->shape[2];
  const int64_t padding = plan->window->pad_left * depth;
  const int64_t left = padding < plan->row_bytes ? padding : plan->row_bytes, space = plan->row_bytes - left;
  const int64_t bytes = width * depth < space ? width * depth : space;
  if (row < 0 || row >= plan->input->shape[1]) {
    memset(copy, zero_point, (size_t)plan->row_bytes);
    return;
  }
  memset(copy, zero_point, (size_t)left);
  memcpy(copy + left, image_row(plan, sample, row), (size_t)bytes);
  memset(copy + left + bytes, zero_point, (size_t)(space - bytes));
}

// Copies the input rows under an output row, as what the product takes.
static void copy_rows(const conv_plan *plan, const conv_segment *segment, uint8_t zero_point, uint8_t *copies) {
  const uf_window *window = plan->window;
  uint8_t *spare = copies + window->kernel_h * plan->copy_bytes;
  for (int32_t i = 0; i < window->kernel_h; ++i, copies += plan->copy_bytes) {
    const int32_t row = segment->row * window->stride_h - window->pad_top + i * window->dilation_h;
    copy_row(plan, segment->sample, row, zero_point, plan->words ? spare : copies);
    if (plan->words) UF_GEMM.widen(spare, plan->row_bytes, (int16_t *)(void *)copies);
  }
}

// Fills the table of a segment whose rows are in `copies`.
static void point_at_copies(const conv_plan *plan, const conv_segment *segment, const uint8_t *copies,
                            const uint8_t **table) {
  const int64_t step = (int64_t)plan->window->stride_w * plan->input->shape[3] * input_bytes(plan);
  for (int64_t tap = 0; tap < plan->shape.taps; ++tap, copies += plan->copy_bytes, table += plan->panel) {
    for (int32_t i = 0; i < segment->count; ++i) table[i] = copies + (segment->column + i) * step;
  }
}

// Pointers behind those of `count` pixels, for rows that are computed together with the last of them.
static void point_behind(const conv_plan *plan, int64_t count, const uint8_t *outside, const uint8_t **table) {
  for (int64_t tap = 0; tap < plan->shape.taps; ++tap, table += plan->panel) {
    for (int64_t i = count; i < round_up(count, UF_GEMM_GRAIN); ++i) table[i] = outside;
  }
}

// --- Running. ---

// A thread's share: some pixels, and some blocks of the output channels of all groups.
typedef struct {
  uf_range pixels, blocks;
} conv_share;

// Pixels are shared out, unless there are so few that sharing the weights is better; whole rows of them where there are
// enough, as each thread copies what lies under its rows.
static conv_share share_of(const conv_plan *plan, int thread, int threads) {
  const uf_range all_pixels = {0, uf_volume(plan->output, 0, 3)};
  const uf_range all_blocks = {0, plan->groups * uf_gemm_blocks(&UF_GEMM, &plan->shape)};
  const bool few_pixels = all_pixels.end < (int64_t)threads * 8 * ROWS_OF_A_TILE;
  const bool many_blocks = all_blocks.end >= 4 * (int64_t)threads;
  const bool many_rows = uf_volume(plan->output, 0, 2) >= 2 * (int64_t)threads;
  const int64_t grain = plan->whole_rows && many_rows ? plan->output->shape[2] : ROWS_OF_A_TILE;
  const conv_share by_blocks = {all_pixels, uf_share(all_blocks.end, 1, thread, threads)};
  const conv_share by_pixels = {uf_share(all_pixels.end, few_pixels ? 1 : grain, thread, threads), all_blocks};
  return few_pixels && many_blocks ? by_blocks : by_pixels;
}

static void run_panel(const conv_plan *plan, const uf_range *blocks, uf_gemm *gemm, const uint8_t *packed,
                      uint8_t *out) {
  const int64_t each = uf_gemm_blocks(&UF_GEMM, &plan->shape);
  for (int64_t group = blocks->begin / each; group * each < blocks->end; ++group) {
    const int64_t begin = blocks->begin - group * each, end = blocks->end - group * each;
    const uf_range inside = {begin < 0 ? 0 : begin, end > each ? each : end};
    gemm->packed = packed + (size_t)group * UF_GEMM.packed_size(&plan->shape);
    gemm->ahead = gemm->packed + UF_AHEAD;
    gemm->table_offset = group * plan->shape.depth;
    gemm->out = out + group * plan->shape.channels;
    UF_GEMM.run(gemm, inside);
  }
}

// Finds the runs of up to `left` pixels from `pixel` on, and says how many those are.
static void find_runs(const conv_plan *plan, int64_t pixel, int64_t left, const uint8_t *outside, const uint8_t **table,
                      uf_gemm *gemm) {
  const int64_t whole = left / UF_GEMM_GRAIN * UF_GEMM_GRAIN;
  gemm->rows = left < plan->panel ? left : plan->panel;
  gemm->even = NULL;
  if (UF_GEMM.takes_even && plan->same_pixels && whole > 0) {  // the rest would be read past the image's end
    gemm->rows = whole < plan->panel ? whole : plan->panel;
    gemm->even = plan->input->data + pixel * plan->input->shape[3];
    gemm->run_stride = plan->input->shape[3];
    return;
  }
  point_at_windows(plan, pixel, gemm->rows, outside, table);
  point_behind(plan, gemm->rows, outside, table);
}

// The same where runs are kernel rows: in copies of the image's rows, made at a row's beginning.
static void find_runs_in_copies(const conv_plan *plan, int64_t pixel, int64_t left, bool first, const uint8_t *outside,
                                uint8_t *copies, const uint8_t **table, uf_gemm *gemm) {
  const conv_segment segment = segment_at(plan, pixel, left < plan->panel ? left : plan->panel);
  if (segment.column == 0 || first) copy_rows(plan, &segment, outside[0], copies);
  gemm->rows = segment.count;
  if (UF_GEMM.takes_even) {
    gemm->run_stride = (int64_t)plan->window->stride_w * plan->input->shape[3] * input_bytes(plan);
    gemm->tap_stride = plan->copy_bytes;
    gemm->even = copies + segment.column * gemm->run_stride;
    return;
  }
  point_at_copies(plan, &segment, copies, table);
  point_behind(plan, gemm->rows, outside, table);
}

// Channels of the output before a block.
static int64_t channel_of(const conv_plan *plan, int64_t block) {
  const int64_t each = uf_gemm_blocks(&UF_GEMM, &plan->shape), group = block / each;
  const int64_t inside = block % each * UF_GEMM.block_channels;
  return group * plan->shape.channels + inside;
}

// Lets the follower have what was written: whole pixels, or some channels of each.
static void follow(const uf_node *node, const conv_plan *plan, const uf_range *blocks, int64_t pixel, int64_t count) {
  if (node->follower == NULL) return;
  const int64_t channels = plan->output->shape[3];
  const int64_t begin = channel_of(plan, blocks->begin), end = channel_of(plan, blocks->end);
  const bool whole = end - begin == channels;
  if (whole) uf_follow(node, pixel * channels, count * channels);
  for (int64_t i = 0; !whole && i < count; ++i) uf_follow(node, (pixel + i) * channels + begin, end - begin);
}

static void run(const uf_node *node, int thread, int threads) {
  const conv_plan plan = make_plan(node);
  const conv_share share = share_of(&plan, thread, threads);
  const uint8_t *outside = node->packed, *packed = outside + plan.margin_bytes;
  const uint8_t **table = uf_scratch(node, thread);
  uint8_t *copies = (uint8_t *)table + copies_offset(&plan);
  uf_gemm gemm = {.shape = plan.shape,
                  .table = table,
                  .table_stride = plan.panel,
                  .words = plan.words,
                  .out_stride = plan.output->shape[3],
                  .scratch = (uint8_t *)table + table_bytes(&plan)};
  for (int64_t pixel = share.pixels.begin; pixel < share.pixels.end; pixel += gemm.rows) {
    const int64_t left = share.pixels.end - pixel;
    if (plan.whole_rows) {
      const bool first = pixel == share.pixels.begin;
      find_runs_in_copies(&plan, pixel, left, first, outside, copies, table, &gemm);
    } else {
      find_runs(&plan, pixel, left, outside, table, &gemm);
    }
    run_panel(&plan, &share.blocks, &gemm, packed, plan.output->data + pixel * gemm.out_stride);
    follow(node, &plan, &share.blocks, pixel, gemm.rows);
  }
}

UF_DEFINE_KERNEL(conv2d, .supports = supports, .packed_size = packed_size, .pack = pack, .scratch_size = scratch_size,
                 .run = run, .leads = true);
