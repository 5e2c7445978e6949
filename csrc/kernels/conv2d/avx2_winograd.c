// Convolution of 3x3 windows at stride 1 by Winograd's F(4x4, 3x3) (C11, AVX2): 36 multiplications where sixteen
// outputs take 144, in integers and exact.
//
// Of an image's square of 6x6 inputs d and a window's weights g, 4x4 outputs are A' [(G g G') * (B' d B)] A, with *
// element by element. What is whole in the columns of A stands in the rows of G, and each output has its own factor:
//
//          | 4  0 -5  0  1  0 |        | 6  0  0 |         | 1 -4 -4  1  1  0 |    24 times the first output
//          | 0 -4 -4  1  1  0 |        | 1  1  1 |         | 0 -2  2  1 -1  0 |    12 times the second
//     B' = | 0  4 -4 -1  1  0 |    G = | 1 -1  1 |    A' = | 0 -1 -1  1  1  0 |     6 times the third
//          | 0 -2 -1  2  1  0 |        | 1  2  4 |         | 0 -1  1  2 -2  1 |     6 times the fourth
//          | 0  2 -1 -2  1  0 |        | 1 -2  4 |
//          | 0  4  0 -5  0  1 |        | 0  0  6 |
//
// Words hold both sides: B' d B lies in [-12750, 17340], G g G' in [-6272, 6272]. So each of the 36 places of the
// square is a matrix product of words over the input channels, whose rows are squares. Sums may wrap: modulo 2^32, a
// product with the inverse of 9 and a shift by 2 to 6 bits take the factors back, if an output's sum fits 26 bits.
//
// A packed block is a uf_block16 and its weights [36 places][depth / 2][16][2]. Zero points go before the blocks, for
// padding to point to.

#include <string.h>

#include "../gemm/each_row.h"
#include "../gemm/row256.h"

enum {
  TILE_ROWS = 6,
  SIDE = 6,  // of a square of inputs
  PLACES = SIDE * SIDE,
  OUTPUTS = 4,       // a side of a square of outputs
  DEPTH_GRAIN = 16,  // input channels that are transformed at once
  STEP_DEPTH = 2,
  STEP_WEIGHTS = UF_BLOCK_CHANNELS * STEP_DEPTH,
  MOST_WEIGHTS = 1 << 16,            // of a place: eight times the memory of larger ones would be read for few squares
  MOST_SUM = 1 << 25,                // of an output, negative or positive
  MOST_SQUARES = 8 * TILE_ROWS + 1,  // that are transformed at once
  SQUARES_BYTES = 352 << 10,         // which these should not exceed: most of a second cache of 512 KiB
};

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  int64_t depth, channels, blocks;
  int64_t square_rows, square_columns;  // of an image
  int64_t square_bytes;                 // of its words at a place
  int64_t squares;                      // that are transformed at once
  size_t margin_bytes;                  // of zero points, at the start of the packed memory
  size_t block_bytes;
} winograd_plan;

static winograd_plan make_plan(const uf_node *node) {
  winograd_plan plan = {.window = &node->params.linear.window, .input = node->inputs[0], .output = node->output};
  plan.depth = plan.input->shape[3];
  plan.channels = plan.output->shape[3];
  plan.blocks = uf_divide_up(plan.channels, UF_BLOCK_CHANNELS);
  plan.square_rows = uf_divide_up(plan.output->shape[1], OUTPUTS);
  plan.square_columns = uf_divide_up(plan.output->shape[2], OUTPUTS);
  // An odd number of cache lines, lest the rows of a tile share their places in the first cache.
  plan.square_bytes = (uf_divide_up(plan.depth * (int64_t)sizeof(int16_t), UF_ALIGNMENT) | 1) * UF_ALIGNMENT;
  const int64_t fit = SQUARES_BYTES / (PLACES * plan.square_bytes);
  plan.squares = (fit < TILE_ROWS      ? TILE_ROWS
                  : fit < MOST_SQUARES ? fit
                                       : MOST_SQUARES) |
                 1;  // and those of all places
  plan.margin_bytes = (size_t)uf_divide_up(plan.depth, UF_ALIGNMENT) * UF_ALIGNMENT;
  plan.block_bytes = sizeof(uf_block16) + (size_t)(PLACES * plan.depth * UF_BLOCK_CHANNELS) * sizeof(int16_t);
  return plan;
}

// --- At load. ---

static bool is_plain(const uf_linear *linear) {
  const uf_window *window = &linear->window;
  return linear->groups == 1 && linear->weight_zero_point == 0 && window->kernel_h == 3 && window->kernel_w == 3 &&
         window->stride_h == 1 && window->stride_w == 1 && window->dilation_h == 1 && window->dilation_w == 1;
}

// Squares over an image's edges compute outputs that nobody wants, and transforming takes time too.
static bool pays(const winograd_plan *plan) {
  const int64_t wanted = (int64_t)plan->output->shape[1] * plan->output->shape[2];
  const int64_t squares = plan->square_rows * plan->square_columns;
  return squares >= 4 && 3 * PLACES * squares <= 2 * 9 * wanted;
}

static bool sums_fit(const winograd_plan *plan, const int8_t *weight) {
  const int64_t length = 9 * plan->depth;
  if (length * UINT8_MAX * -INT8_MIN < MOST_SUM) return true;
  for (int64_t c = 0; c < plan->channels; ++c) {
    const uf_weight_sums sums = uf_sum_weights(weight + c * length, length, 1);
    if (UINT8_MAX * sums.positive >= MOST_SUM || UINT8_MAX * sums.negative < -MOST_SUM) return false;
  }
  return true;
}

static bool supports(const uf_node *node) {
  if (!is_plain(&node->params.linear)) return false;
  const winograd_plan plan = make_plan(node);
  return plan.depth % DEPTH_GRAIN == 0 && plan.channels >= UF_BLOCK_CHANNELS &&
         plan.depth * plan.channels <= MOST_WEIGHTS && pays(&plan) && sums_fit(&plan, node->params.linear.weight);
}

static size_t packed_size(const uf_node *node) {
  const winograd_plan plan = make_plan(node);
  return plan.margin_bytes + (size_t)plan.blocks * plan.block_bytes;
}

// Three weights as six, by G.
static void transform_three(const int *g, int stride, int *out, int out_stride) {
  const int first = g[0], second = g[stride], third = g[2 * stride];
  out[0] = 6 * first;
  out[out_stride] = first + third + second;
  out[2 * out_stride] = first + third - second;
  out[3 * out_stride] = first + 4 * third + 2 * second;
  out[4 * out_stride] = first + 4 * third - 2 * second;
  out[5 * out_stride] = 6 * third;
}

// The weights of an output channel, [3][3][depth], to its lane.
static void pack_channel(const int8_t *weight, int64_t depth, int lane, int16_t *packed) {
  for (int64_t k = 0; k < depth; ++k) {
    int window[9], columns[SIDE * 3], all[PLACES];
    for (int tap = 0; tap < 9; ++tap) window[tap] = weight[tap * depth + k];
    for (int j = 0; j < 3; ++j) transform_three(window + j, 3, columns + j, 3);
    for (int i = 0; i < SIDE; ++i) transform_three(columns + 3 * i, 1, all + SIDE * i, 1);
    int16_t *out = packed + k / STEP_DEPTH * STEP_WEIGHTS + STEP_DEPTH * lane + k % STEP_DEPTH;
    for (int place = 0; place < PLACES; ++place, out += depth * UF_BLOCK_CHANNELS) *out = (int16_t)all[place];
  }
}

static void pack(const uf_node *node, void *packed) {
  const winograd_plan plan = make_plan(node);
  const uf_linear *linear = &node->params.linear;
  memset(packed, linear->input_zero_point, plan.margin_bytes);
  for (int64_t index = 0; index < plan.blocks; ++index) {
    uf_block16 *block = (uf_block16 *)((uint8_t *)packed + plan.margin_bytes + (size_t)index * plan.block_bytes);
    uf_weight_sums sums[UF_BLOCK_CHANNELS];
    const int64_t first = index * UF_BLOCK_CHANNELS, left = plan.channels - first;
    const int count = left < UF_BLOCK_CHANNELS ? (int)left : UF_BLOCK_CHANNELS;
    for (int c = 0; c < count; ++c) {
      const int8_t *weight = linear->weight + (first + c) * 9 * plan.depth;
      pack_channel(weight, plan.depth, channel_lane(c), (int16_t *)(block + 1));
      sums[c] = uf_sum_weights(weight, 9 * plan.depth, 1);
    }
    uf_pack_block16(linear, first, count, sums, 0, lane_channel, block);
  }
}

static size_t words_bytes(const winograd_plan *plan) { return (size_t)(PLACES * plan->squares * plan->square_bytes); }

// Scratch holds the squares' words, [16 places][squares][square_bytes], and their sums with a block, [16][squares][16].
static size_t scratch_size(const uf_node *node) {
  const winograd_plan plan = make_plan(node);
  return words_bytes(&plan) + (size_t)(PLACES * plan.squares * UF_BLOCK_CHANNELS) * sizeof(int32_t);
}

// --- Squares. ---

// Where a square's outputs begin.
typedef struct {
  int64_t sample;
  int32_t row, column;
} square_place;

static square_place place_of(const winograd_plan *plan, int64_t square) {
  const int64_t row = square / plan->square_columns;
  const square_place place = {row / plan->square_rows, (int32_t)(row % plan->square_rows) * OUTPUTS,
                              (int32_t)(square % plan->square_columns) * OUTPUTS};
  return place;
}

// Pointers to the inputs of a square, and to zero points where there are none.
static void point_at_inputs(const winograd_plan *plan, const square_place *place, const uint8_t *outside,
                            const uint8_t **inputs) {
  const uf_tensor *image = plan->input;
  const int64_t first_row = place->row - plan->window->pad_top, first_column = place->column - plan->window->pad_left;
  for (int64_t i = 0; i < SIDE; ++i) {
    const int64_t row = first_row + i;
    const bool inside = row >= 0 && row < image->shape[1];
    const int64_t pixel = (place->sample * image->shape[1] + row) * image->shape[2];
    const uint8_t *line = inside ? image->data + pixel * plan->depth : NULL;
    for (int64_t j = 0; j < SIDE; ++j) {
      const int64_t column = first_column + j;
      *inputs++ = inside && column >= 0 && column < image->shape[2] ? line + column * plan->depth : outside;
    }
  }
}

// Six words of inputs, by B'.
UF_INLINE void transform_six(const __m256i *d, __m256i *out) {
  const __m256i twice_outer = _mm256_slli_epi16(_mm256_sub_epi16(d[0], d[2]), 2);
  const __m256i even = _mm256_sub_epi16(d[4], d[2]), odd = _mm256_sub_epi16(d[3], d[1]);
  const __m256i even4 = _mm256_sub_epi16(d[4], _mm256_slli_epi16(d[2], 2));
  const __m256i odd4 = _mm256_sub_epi16(d[3], _mm256_slli_epi16(d[1], 2)), odd2 = _mm256_add_epi16(odd, odd);
  out[0] = _mm256_add_epi16(twice_outer, even);
  out[1] = _mm256_add_epi16(even4, odd4);
  out[2] = _mm256_sub_epi16(even4, odd4);
  out[3] = _mm256_add_epi16(even, odd2);
  out[4] = _mm256_sub_epi16(even, odd2);
  out[5] = _mm256_sub_epi16(_mm256_sub_epi16(d[5], d[3]), _mm256_add_epi16(odd2, odd2));
}

// The words of a square, those of a place `place_bytes` behind the last one's.
static void transform_square(const uint8_t *const *inputs, int64_t depth, uint8_t *words, int64_t place_bytes) {
  for (int64_t k = 0; k < depth; k += DEPTH_GRAIN) {
    __m256i columns[SIDE][SIDE];
    for (int i = 0; i < SIDE; ++i) {
      __m256i d[SIDE], line[SIDE];
#pragma GCC unroll 6
      for (int j = 0; j < SIDE; ++j) d[j] = _mm256_cvtepu8_epi16(uf_load_bytes(inputs[SIDE * i + j] + k));
      transform_six(d, line);
#pragma GCC unroll 6
      for (int j = 0; j < SIDE; ++j) columns[j][i] = line[j];
    }
    uint8_t *out = words + k * (int64_t)sizeof(int16_t);
    for (int j = 0; j < SIDE; ++j) {
      __m256i all[SIDE];
      transform_six(columns[j], all);
#pragma GCC unroll 6
      for (int i = 0; i < SIDE; ++i) {
        _mm256_store_si256((__m256i *)(void *)(out + (SIDE * i + j) * place_bytes), all[i]);
      }
    }
  }
}

// --- Products. ---

// Sums of up to 6 squares with a block at a place.
typedef struct {
  const uint8_t *words;  // of the first square
  int64_t square_bytes, steps;
  const int16_t *weights;
  int32_t *sums;  // [squares][16]
} place_product;

UF_INLINE void multiply(const place_product *product, int rows) {
  row_type r0 = no_row(), r1 = r0, r2 = r0, r3 = r0, r4 = r0, r5 = r0;
  const int64_t bytes = product->square_bytes;
  const uint8_t *x0 = product->words, *x1 = rows > 1 ? x0 + bytes : x0, *x2 = rows > 2 ? x1 + bytes : x0;
  const uint8_t *x3 = rows > 3 ? x2 + bytes : x0, *x4 = rows > 4 ? x3 + bytes : x0, *x5 = rows > 5 ? x4 + bytes : x0;
  const __m256i *w = (const __m256i *)(const void *)product->weights;
  const int64_t end = product->steps * STEP_DEPTH * (int64_t)sizeof(int16_t);
  for (int64_t at = 0; at != end; at += STEP_DEPTH * (int64_t)sizeof(int16_t), w += 2) {
    const row_type weights = {_mm256_load_si256(w), _mm256_load_si256(w + 1)};
    _mm_prefetch((const char *)(w + 2 * product->steps), _MM_HINT_T0);
#define MULTIPLY_ROW(i)                               \
  do {                                                \
    const __m256i inputs = broadcast4(x##i + at);     \
    r##i.v0 = add_pairs(r##i.v0, inputs, weights.v0); \
    r##i.v1 = add_pairs(r##i.v1, inputs, weights.v1); \
    NEXT_ROW(at, r##i, false);                        \
  } while (0)
    EACH_ROW(rows, MULTIPLY_ROW);
#undef MULTIPLY_ROW
  }
  __m256i *out = (__m256i *)(void *)product->sums;
#define STORE_ROW(i)                                \
  do {                                              \
    _mm256_store_si256(out + 2 * (i), r##i.v0);     \
    _mm256_store_si256(out + 2 * (i) + 1, r##i.v1); \
  } while (0)
  EACH_ROW(rows, STORE_ROW);
#undef STORE_ROW
}

// Squares that were transformed, and where what is computed of them goes.
typedef struct {
  const winograd_plan *plan;
  int64_t count;
  square_place places[MOST_SQUARES];
  uint8_t *words;
  int32_t *sums;
} squares_task;

#define DEFINE_MULTIPLY(rows) \
  static void multiply_##rows(const place_product *product) { multiply(product, rows); }
DEFINE_MULTIPLY(1)
DEFINE_MULTIPLY(2)
DEFINE_MULTIPLY(3)
DEFINE_MULTIPLY(4)
DEFINE_MULTIPLY(5)
DEFINE_MULTIPLY(6)
#undef DEFINE_MULTIPLY

static void (*const kMultiply[TILE_ROWS])(const place_product *) = {multiply_1, multiply_2, multiply_3,
                                                                    multiply_4, multiply_5, multiply_6};

// Tiles as even as can be.
static void multiply_places(const squares_task *task, const uf_block16 *block) {
  const winograd_plan *plan = task->plan;
  const int64_t tiles = uf_divide_up(task->count, TILE_ROWS), steps = plan->depth / STEP_DEPTH;
  const int16_t *weights = (const int16_t *)(const void *)(block + 1);
  for (int64_t place = 0; place < PLACES; ++place, weights += steps * STEP_WEIGHTS) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const uf_range rows = uf_share(task->count, 1, (int)tile, (int)tiles);
      const int64_t row = place * plan->squares + rows.begin;
      const place_product product = {task->words + row * plan->square_bytes, plan->square_bytes, steps, weights,
                                     task->sums + row * UF_BLOCK_CHANNELS};
      kMultiply[rows.end - rows.begin - 1](&product);
    }
  }
}

// --- Outputs. ---

// Six sums, by A'.
UF_INLINE void gather_six(const __m256i *m, __m256i *out) {
  const __m256i near = _mm256_add_epi32(m[1], m[2]), near_odd = _mm256_sub_epi32(m[1], m[2]);
  const __m256i far = _mm256_add_epi32(m[3], m[4]), far_odd = _mm256_sub_epi32(m[3], m[4]);
  out[0] = _mm256_add_epi32(_mm256_sub_epi32(m[0], _mm256_slli_epi32(near, 2)), far);
  out[1] = _mm256_sub_epi32(far_odd, _mm256_slli_epi32(near_odd, 1));
  out[2] = _mm256_sub_epi32(far, near);
  out[3] = _mm256_add_epi32(_mm256_sub_epi32(_mm256_slli_epi32(far_odd, 1), near_odd), m[5]);
}

// The factor of an output: 3 by its row and 3 by its column, and so many bits by either.
enum { INVERSE_OF_9 = 0x38e38e39 };
static const int kFactorBits[OUTPUTS] = {3, 2, 1, 1};

// A vector of the sixteen outputs' sums; `sums` are the square's at the first place.
UF_INLINE void gather_outputs(const int32_t *sums, int64_t squares, __m256i out[OUTPUTS][OUTPUTS]) {
  __m256i lines[OUTPUTS][SIDE];
  for (int j = 0; j < SIDE; ++j) {
    __m256i m[SIDE], column[OUTPUTS];
#pragma GCC unroll 6
    for (int i = 0; i < SIDE; ++i) {
      const int32_t *place = sums + (SIDE * i + j) * squares * UF_BLOCK_CHANNELS;
      m[i] = _mm256_load_si256((const __m256i *)(const void *)place);
    }
    gather_six(m, column);
#pragma GCC unroll 4
    for (int i = 0; i < OUTPUTS; ++i) lines[i][j] = column[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < OUTPUTS; ++i) {
    gather_six(lines[i], out[i]);
#pragma GCC unroll 4
    for (int j = 0; j < OUTPUTS; ++j) {
      const __m256i product = _mm256_mullo_epi32(out[i][j], _mm256_set1_epi32(INVERSE_OF_9));
      out[i][j] = _mm256_srai_epi32(product, kFactorBits[i] + kFactorBits[j]);
    }
  }
}

UF_INLINE void store_squares(const squares_task *task, const uf_block16 *block, int64_t channel, uf_form form) {
  const winograd_plan *plan = task->plan;
  const uf_tensor *image = plan->output;
  for (int64_t i = 0; i < task->count; ++i) {
    const square_place place = task->places[i];
    const int32_t *sums = task->sums + i * UF_BLOCK_CHANNELS;
    __m256i first[OUTPUTS][OUTPUTS], second[OUTPUTS][OUTPUTS];
    gather_outputs(sums, plan->squares, first);
    gather_outputs(sums + UF_LANES, plan->squares, second);
    for (int32_t row = place.row; row < place.row + OUTPUTS && row < image->shape[1]; ++row) {
      for (int32_t column = place.column; column < place.column + OUTPUTS && column < image->shape[2]; ++column) {
        const int64_t pixel = (place.sample * image->shape[1] + row) * image->shape[2] + column;
        const row_type sum = {first[row - place.row][column - place.column],
                              second[row - place.row][column - place.column]};
        uf_store_first(image->data + pixel * plan->channels + channel,
                       uf_clamped(form, row_bytes(&sum, block, form), block), plan->channels - channel);
      }
    }
  }
}

// Lets the follower have whole pixels.
static void follow(const uf_node *node, const squares_task *task) {
  if (node->follower == NULL) return;
  const winograd_plan *plan = task->plan;
  const uf_tensor *image = plan->output;
  for (int64_t i = 0; i < task->count; ++i) {
    const square_place place = task->places[i];
    const int64_t left = image->shape[2] - place.column, columns = left < OUTPUTS ? left : OUTPUTS;
    for (int32_t row = place.row; row < place.row + OUTPUTS && row < image->shape[1]; ++row) {
      const int64_t pixel = (place.sample * image->shape[1] + row) * image->shape[2] + place.column;
      uf_follow(node, pixel * plan->channels, columns * plan->channels);
    }
  }
}

// --- Running. ---

// Transforms squares of the batch, from `first` on.
static void transform_squares(const uf_node *node, int64_t first, squares_task *task) {
  const winograd_plan *plan = task->plan;
  for (int64_t i = 0; i < task->count; ++i) {
    const uint8_t *inputs[PLACES];
    task->places[i] = place_of(plan, first + i);
    point_at_inputs(plan, &task->places[i], node->packed, inputs);
    transform_square(inputs, plan->depth, task->words + i * plan->square_bytes, plan->squares * plan->square_bytes);
  }
}

static void run_block(const squares_task *task, const uf_block16 *block, int64_t channel) {
  multiply_places(task, block);
  if (block->form == UF_ABSORBED) {
    store_squares(task, block, channel, UF_ABSORBED);
  } else {
    store_squares(task, block, channel, block->form);
  }
}

// Threads share squares.
static void run(const uf_node *node, int thread, int threads) {
  const winograd_plan plan = make_plan(node);
  const int64_t squares = plan.output->shape[0] * plan.square_rows * plan.square_columns;
  const uf_range share = uf_share(squares, 1, thread, threads);
  const int64_t count = share.end - share.begin, chunks = uf_divide_up(count, plan.squares);
  const uint8_t *blocks = (const uint8_t *)node->packed + plan.margin_bytes;
  squares_task task = {.plan = &plan, .words = uf_scratch(node, thread)};
  task.sums = (int32_t *)(void *)(task.words + words_bytes(&plan));
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const uf_range part = uf_share(count, 1, (int)chunk, (int)chunks);
    task.count = part.end - part.begin;
    transform_squares(node, share.begin + part.begin, &task);
    for (int64_t index = 0; index < plan.blocks; ++index) {
      const uf_block16 *block = (const uf_block16 *)(const void *)(blocks + (size_t)index * plan.block_bytes);
      run_block(&task, block, index * UF_BLOCK_CHANNELS);
    }
    follow(node, &task);
  }
}

const uf_kernel conv2d__avx2_winograd = {
    .name = "conv2d__avx2_winograd",
    .level = UF_AVX2,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
    .leads = true,
};
