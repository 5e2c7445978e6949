// Depthwise convolution along rows of the output (C11, AVX2): kernels of 3x3 and 5x5 at strides 1 and 2.
//
// A column of the window, for 16 channels, is interleaved and widened once, two of its rows at a time, and multiplied
// for each output that it is a column of. So the sums of as many outputs as overlap are under way; the oldest one is
// finished, and the others take its place. The weights of a block are [pairs of rows][kernel_w][16][2].

#include <string.h>

#include "../block16.h"
#include "places.h"

typedef int16_t weight_type;

enum { MOST_ROWS = 5, LOWERED = 0, LEAST_WEIGHT = INT8_MIN };

static int weight_place(int channel, int row) { return 2 * channel + row; }

static int32_t pairs_of(const uf_window *window) { return (window->kernel_h + 1) / 2 * window->kernel_w; }

// A pair is of two rows of a column.
static int32_t half_of(const uf_window *window, int32_t tap) {
  const int32_t row = tap / window->kernel_w, column = tap % window->kernel_w;
  return 2 * (row / 2 * window->kernel_w + column) + row % 2;
}

#include "packed_pairs.h"

static bool supports(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  const int32_t kernel = window->kernel_h, stride = window->stride_w;
  return is_plain(node) && window->kernel_w == kernel && (kernel == 3 || kernel == 5) && (stride == 1 || stride == 2) &&
         window->dilation_w == 1;
}

// --- Running. ---

// An output row of 16 channels.
typedef struct {
  const uint8_t *rows[MOST_ROWS];  // of the input, at its first column, or zero points
  int64_t step[MOST_ROWS];         // bytes from one column to the next, 0 for zero points
  const uint8_t *outside;
  int32_t width, pad;  // of the input
  int32_t count;       // outputs
  const uf_block16 *block;
  uint8_t *out;
  int64_t out_stride, channels;  // channels to be stored
} row_task;

typedef struct {
  __m256i low, high;
} sums16;

// What loops are compiled for.
typedef struct {
  int kernel, stride;
  uf_form form;      // the block's
  int64_t channels;  // the task's, at most 16
  bool half;         // 8: the high sums are not computed
} row_kind;

UF_INLINE uf_bytes bytes_of_sums(const sums16 *sums, const uf_block16 *block, const row_kind *kind) {
  const __m256i low = uf_started(sums->low, block, 0);
  if (kind->half) return uf_half_bytes_of_sums(kind->form, low, block);
  return uf_in_order(uf_bytes_of_sums(kind->form, low, uf_started(sums->high, block, 1), block));
}

UF_INLINE void store_sums(const sums16 *sums, const row_task *task, const row_kind *kind, int32_t at) {
  const uf_bytes bytes = bytes_of_sums(sums, task->block, kind);
  uf_store_first(task->out + at * task->out_stride, uf_clamped(kind->form, bytes, task->block), kind->channels);
}

// The sums of the outputs that share a column, the oldest first. Named ones and constant conditions: gcc keeps these in
// registers, not arrays.
typedef struct {
  sums16 s0, s1, s2, s3, s4;
} live_sums;

UF_INLINE void add_pair(sums16 *sums, __m256i first, __m256i second, const __m256i *weights, bool half) {
  sums->low = _mm256_add_epi32(sums->low, _mm256_madd_epi16(first, _mm256_load_si256(weights)));
  if (half) return;
  sums->high = _mm256_add_epi32(sums->high, _mm256_madd_epi16(second, _mm256_load_si256(weights + 1)));
}

// A row's bytes as pairs of words, the second one 0.
UF_INLINE void pair_with_nothing(const uint8_t *x, int64_t channels, __m256i *first, __m256i *second) {
  const bool whole = channels == UF_BLOCK_CHANNELS;
  const __m128i low = whole ? uf_load_half(x) : uf_load_first(x, channels);
  *first = _mm256_cvtepu8_epi32(low);
  *second = _mm256_cvtepu8_epi32(whole ? uf_load_half(x + UF_LANES) : _mm_unpackhi_epi64(low, low));
}

// The bytes of two rows as pairs of words.
UF_INLINE void interleave_rows(const uint8_t *above, const uint8_t *below, int64_t channels, __m256i *first,
                               __m256i *second) {
  const __m128i a = uf_load_first(above, channels), b = uf_load_first(below, channels);
  *first = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
  *second = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b));
}

// Adds a column of the input, which is the window's column `newest` + stride * (live - 1 - i) for sum i of `live`.
UF_INLINE void add_column(live_sums *sums, const row_task *task, const row_kind *kind, int32_t column, int live,
                          int newest) {
  const int stride = kind->stride;
  const int32_t x = column - task->pad;
  const bool inside = (uint32_t)x < (uint32_t)task->width;
  for (int row = 0; row < kind->kernel; row += 2) {
    const uint8_t *above = inside ? task->rows[row] + x * task->step[row] : task->outside;
    __m256i first, second;
    if (row + 1 < kind->kernel) {
      const uint8_t *below = inside ? task->rows[row + 1] + x * task->step[row + 1] : task->outside;
      interleave_rows(above, below, kind->channels, &first, &second);
    } else {
      pair_with_nothing(above, kind->channels, &first, &second);
    }
    const __m256i *weights = (const __m256i *)(task->block + 1) + row * kind->kernel;
    const bool half = kind->half;
    add_pair(&sums->s0, first, second, weights + 2 * (newest + stride * (live - 1)), half);
    if (live > 1) add_pair(&sums->s1, first, second, weights + 2 * (newest + stride * (live - 2)), half);
    if (live > 2) add_pair(&sums->s2, first, second, weights + 2 * (newest + stride * (live - 3)), half);
    if (live > 3) add_pair(&sums->s3, first, second, weights + 2 * (newest + stride * (live - 4)), half);
    if (live > 4) add_pair(&sums->s4, first, second, weights + 2 * newest, half);
  }
}

UF_INLINE sums16 no_sums(void) {
  const sums16 none = {_mm256_setzero_si256(), _mm256_setzero_si256()};
  return none;
}

// The oldest of `live` sums leaves.
UF_INLINE void move_up(live_sums *sums, int live) {
  sums->s0 = live > 1 ? sums->s1 : no_sums();
  sums->s1 = live > 2 ? sums->s2 : no_sums();
  sums->s2 = live > 3 ? sums->s3 : no_sums();
  sums->s3 = live > 4 ? sums->s4 : no_sums();
  sums->s4 = no_sums();
}

UF_INLINE void run_kind(const row_task *given, row_kind kind) {
  const row_task own = *given;  // which no store of bytes can change
  const row_task *const task = &own;
  const int live = (kind.kernel + kind.stride - 1) / kind.stride;
  live_sums sums = {no_sums(), no_sums(), no_sums(), no_sums(), no_sums()};
  sums16 finished = no_sums();  // stored a step later, so that the rescaling does not wait for a column
  for (int32_t step = 0; step < task->count + live - 1; ++step) {
    add_column(&sums, task, &kind, step * kind.stride, live, 0);
    if (step >= live) store_sums(&finished, task, &kind, step - live);
    finished = sums.s0;
    move_up(&sums, live);
    if (kind.stride == 2) add_column(&sums, task, &kind, step * 2 + 1, live - 1, 1);
  }
  store_sums(&finished, task, &kind, task->count - 1);
}

UF_INLINE void run_row(const row_task *task, int kernel, int stride) {
  const int64_t channels = task->channels < UF_BLOCK_CHANNELS ? task->channels : UF_BLOCK_CHANNELS;
  const uf_form form = task->block->form;
  if (channels == UF_BLOCK_CHANNELS && form == UF_ABSORBED) {
    run_kind(task, (row_kind){kernel, stride, UF_ABSORBED, UF_BLOCK_CHANNELS, false});
  } else if (channels == UF_BLOCK_CHANNELS && form == UF_CLAMPED) {
    run_kind(task, (row_kind){kernel, stride, UF_CLAMPED, UF_BLOCK_CHANNELS, false});
  } else if (channels == UF_LANES && form == UF_ABSORBED) {
    run_kind(task, (row_kind){kernel, stride, UF_ABSORBED, UF_LANES, true});
  } else {
    run_kind(task, (row_kind){kernel, stride, form, channels, false});
  }
}

static void run_3x3(const row_task *task) { run_row(task, 3, 1); }
static void run_3x3_stride2(const row_task *task) { run_row(task, 3, 2); }
static void run_5x5(const row_task *task) { run_row(task, 5, 1); }
static void run_5x5_stride2(const row_task *task) { run_row(task, 5, 2); }

// Points at the rows under an output row.
static void point_at_rows(const depthwise_plan *plan, int64_t sample, int32_t row, int32_t channel, row_task *task) {
  const uf_window *window = plan->window;
  const uf_tensor *input = plan->input;
  const int64_t first = (int64_t)row * window->stride_h - window->pad_top;
  const uint8_t *image = input->data + sample * uf_volume(input, 1, 4) + channel;
  for (int32_t i = 0; i < window->kernel_h; ++i) {
    const int64_t at = first + (int64_t)i * window->dilation_h;
    const bool inside = at >= 0 && at < input->shape[1];
    task->rows[i] = inside ? image + at * input->shape[2] * plan->channels : task->outside;
    task->step[i] = inside ? plan->channels : 0;
  }
}

// Threads share rows of blocks.
static void run(const uf_node *node, int thread, int threads) {
  const depthwise_plan plan = make_plan(node);
  const uf_window *window = plan.window;
  const int32_t rows = plan.output->shape[1];
  const uf_range share = uf_share((int64_t)plan.output->shape[0] * rows * plan.blocks, 1, thread, threads);
  const uint8_t *outside = node->packed, *blocks = outside + plan.margin_bytes;
  void (*const run_kernel)(const row_task *) = window->kernel_w == 3
                                                   ? (window->stride_w == 1 ? run_3x3 : run_3x3_stride2)
                                                   : (window->stride_w == 1 ? run_5x5 : run_5x5_stride2);
  row_task task = {.outside = outside,
                   .width = plan.input->shape[2],
                   .pad = window->pad_left,
                   .count = plan.output->shape[2],
                   .out_stride = plan.channels};
  place_type place = place_at(share.begin, rows, plan.blocks);
  for (int64_t left = share.end - share.begin; left > 0; --left, move_on(&place)) {
    const int32_t channel = place.block * UF_BLOCK_CHANNELS;
    const int64_t row = place.sample * rows + place.row;
    point_at_rows(&plan, place.sample, place.row, channel, &task);
    task.block = (const uf_block16 *)(blocks + (size_t)place.block * plan.block_bytes);
    task.out = node->output->data + row * task.count * plan.channels + channel;
    task.channels = plan.channels - channel;
    run_kernel(&task);
  }
}

const uf_kernel depthwise_conv2d__avx2_rows = {
    .name = "depthwise_conv2d__avx2_rows",
    .level = UF_AVX2,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
};
