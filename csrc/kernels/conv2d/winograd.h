// Convolution of 3x3 windows at stride 1 by Winograd's F(4x4, 3x3) (C11, x86): 36 multiplications where sixteen outputs
// take 144, in integers and exact.
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
// The file that includes it has said how it multiplies:
//
//   MOST_BLOCK_CHANNELS  output channels of a block, at most; a multiple of 16
//   MOST_WEIGHTS         of a place: eight times the memory of larger ones would be read for few squares
//   LEAST_CHANNELS       of inputs and of outputs: with fewer, transforming takes what multiplying saves
//   WORDS_COST           a product of words, in products of bytes
//   SPARE_SQUARES        so many more than there are may be read and written
//   block_type           what a block needs beside its weights
//   sums_type            a vector of 32-bit sums, and its instructions: SUMS(add_epi32), load_sums
//
// It goes on with weight_lane, pack_constants and run_block, and includes winograd_run.h, which calls them.
//
// A packed block is a block_type and its weights [36 places][depth / 2][block_channels][2]. Zero points go before the
// blocks, for padding to point to.

#ifndef UNFLOAT_KERNELS_CONV2D_WINOGRAD_H_
#define UNFLOAT_KERNELS_CONV2D_WINOGRAD_H_

#include <immintrin.h>
#include <string.h>

#include "../channel.h"

enum {
  SIDE = 6,  // of a square of inputs
  PLACES = SIDE * SIDE,
  OUTPUTS = 4,                // a side of a square of outputs
  DEPTH_GRAIN = 16,           // input channels that are transformed at once
  STEP_DEPTH = 2,             // those that a product takes
  LEAST_SQUARES = 4,          // of an image, and transformed at once
  MOST_SUM = 1 << 25,         // of an output, negative or positive
  MOST_SQUARES = 49,          // that are transformed at once
  SQUARES_BYTES = 352 << 10,  // which these should not exceed: most of a second cache of 512 KiB
};

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  int64_t depth, channels, blocks, block_channels;
  int64_t square_rows, square_columns;  // of an image
  int64_t square_bytes;                 // of its words at a place
  int64_t squares;                      // that are transformed at once
  int64_t stride;                       // from a place to the next, in squares
  size_t margin_bytes;                  // of zero points, at the start of the packed memory
  size_t block_bytes;
} winograd_plan;

// Rows of a tile, and the places of a square, begin at odd numbers of cache lines apart, lest they share the few lines
// that the first cache has for each.
static winograd_plan make_plan(const uf_node *node) {
  winograd_plan plan = {.window = &node->params.linear.window, .input = node->inputs[0], .output = node->output};
  plan.depth = plan.input->shape[3];
  plan.channels = plan.output->shape[3];
  plan.blocks = uf_divide_up(plan.channels, MOST_BLOCK_CHANNELS);
  plan.block_channels = uf_divide_up(uf_divide_up(plan.channels, 16), plan.blocks) * 16;
  plan.square_rows = uf_divide_up(plan.output->shape[1], OUTPUTS);
  plan.square_columns = uf_divide_up(plan.output->shape[2], OUTPUTS);
  plan.square_bytes = (uf_divide_up(plan.depth * (int64_t)sizeof(int16_t), UF_ALIGNMENT) | 1) * UF_ALIGNMENT;
  const int64_t fit = SQUARES_BYTES / (PLACES * plan.square_bytes) | 1;
  plan.squares = fit < LEAST_SQUARES ? LEAST_SQUARES : fit < MOST_SQUARES ? fit : MOST_SQUARES;
  plan.stride = (plan.squares + SPARE_SQUARES) | 1;
  plan.margin_bytes = (size_t)uf_divide_up(plan.depth, UF_ALIGNMENT) * UF_ALIGNMENT;
  plan.block_bytes = sizeof(block_type) + (size_t)(PLACES * plan.depth * plan.block_channels) * sizeof(int16_t);
  return plan;
}

static size_t words_bytes(const winograd_plan *plan) { return (size_t)(PLACES * plan->stride * plan->square_bytes); }

static size_t sums_bytes(const winograd_plan *plan) {
  return (size_t)(PLACES * plan->stride * plan->block_channels) * sizeof(int32_t);
}

// Squares that were transformed, and where what is computed of them goes.
typedef struct {
  int64_t sample;
  int32_t row, column;  // the first output
} square_place;

typedef struct {
  const winograd_plan *plan;
  int64_t count;
  square_place places[MOST_SQUARES];
  uint8_t *words;  // [36 places][stride squares][square_bytes]
  int32_t *sums;   // with a block, [36][stride][block_channels]
} squares_task;

// --- Weights. ---

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

// The weights of an output channel, [3][3][depth], to its lane of a block's.
static void pack_channel(const winograd_plan *plan, const int8_t *weight, int lane, int16_t *packed) {
  for (int64_t k = 0; k < plan->depth; ++k) {
    int window[9], columns[SIDE * 3], all[PLACES];
    for (int tap = 0; tap < 9; ++tap) window[tap] = weight[tap * plan->depth + k];
    for (int j = 0; j < 3; ++j) transform_three(window + j, 3, columns + j, 3);
    for (int i = 0; i < SIDE; ++i) transform_three(columns + 3 * i, 1, all + SIDE * i, 1);
    int16_t *out = packed + (k / STEP_DEPTH * plan->block_channels + lane) * STEP_DEPTH + k % STEP_DEPTH;
    for (int place = 0; place < PLACES; ++place, out += plan->depth * plan->block_channels) *out = (int16_t)all[place];
  }
}

// --- Inputs. ---

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
      for (int j = 0; j < SIDE; ++j) {
        d[j] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(inputs[SIDE * i + j] + k)));
      }
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

// --- Outputs. ---

// Six sums, by A'.
UF_INLINE void gather_six(const sums_type *m, sums_type *out) {
  const sums_type near = SUMS(add_epi32)(m[1], m[2]), near_odd = SUMS(sub_epi32)(m[1], m[2]);
  const sums_type far = SUMS(add_epi32)(m[3], m[4]), far_odd = SUMS(sub_epi32)(m[3], m[4]);
  out[0] = SUMS(add_epi32)(SUMS(sub_epi32)(m[0], SUMS(slli_epi32)(near, 2)), far);
  out[1] = SUMS(sub_epi32)(far_odd, SUMS(slli_epi32)(near_odd, 1));
  out[2] = SUMS(sub_epi32)(far, near);
  out[3] = SUMS(add_epi32)(SUMS(sub_epi32)(SUMS(slli_epi32)(far_odd, 1), near_odd), m[5]);
}

// The factor of an output: 3 by its row and 3 by its column, and so many bits by either.
enum { INVERSE_OF_9 = 0x38e38e39 };
static const unsigned kFactorBits[OUTPUTS] = {3, 2, 1, 1};

// The sixteen outputs' sums, for as many channels as a vector holds; `sums` are the square's at the first place.
UF_INLINE void gather_outputs(const int32_t *sums, int64_t place_sums, sums_type out[OUTPUTS][OUTPUTS]) {
  sums_type lines[OUTPUTS][SIDE];
  for (int j = 0; j < SIDE; ++j) {
    sums_type m[SIDE], column[OUTPUTS];
#pragma GCC unroll 6
    for (int i = 0; i < SIDE; ++i) m[i] = load_sums(sums + (SIDE * i + j) * place_sums);
    gather_six(m, column);
#pragma GCC unroll 4
    for (int i = 0; i < OUTPUTS; ++i) lines[i][j] = column[i];
  }
#pragma GCC unroll 4
  for (int i = 0; i < OUTPUTS; ++i) {
    gather_six(lines[i], out[i]);
#pragma GCC unroll 4
    for (int j = 0; j < OUTPUTS; ++j) {
      const sums_type product = SUMS(mullo_epi32)(out[i][j], SUMS(set1_epi32)(INVERSE_OF_9));
      out[i][j] = SUMS(srai_epi32)(product, kFactorBits[i] + kFactorBits[j]);
    }
  }
}

#endif  // UNFLOAT_KERNELS_CONV2D_WINOGRAD_H_
