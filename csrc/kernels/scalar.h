// What the scalar kernels share (C99). Plain loops over contiguous channels, which compilers vectorise.

#ifndef UNFLOAT_KERNELS_SCALAR_H_
#define UNFLOAT_KERNELS_SCALAR_H_

#include <string.h>

#include "dsp.h"
#include "kernel.h"

// sum + sum of (w - weight_zero_point) * (x - input_zero_point). It goes on from the bias because the proof that no
// accumulator overflows does: the products alone may not fit. Both factors fit 16 bits, and saying so lets compilers
// use their 16-bit multiply-add.
static inline int32_t uf_dot(int32_t sum, const uint8_t *x, int32_t input_zero_point, const int8_t *w,
                             int32_t weight_zero_point, ptrdiff_t count) {
  for (ptrdiff_t i = 0; i < count; ++i) {
    sum += (int16_t)(x[i] - input_zero_point) * (int16_t)(w[i] - weight_zero_point);
  }
  return sum;
}

// Rescales the accumulators of output channels [first, first + count) to bytes.
static inline void uf_emit_channels(const uf_linear *linear, const int32_t *sums, int64_t first, ptrdiff_t count,
                                    uint8_t *out) {
  const int32_t *multiplier = linear->multiplier + first;
  const int8_t *shift = linear->shift + first;
  const uf_output output = linear->output;
#ifdef UF_CORTEX_M
  if (output.rounding == QMATH_DOUBLE) {
    uf_emit_fours(sums, multiplier, shift, (int32_t)count, output.zero_point, output.clamp_min, output.clamp_max, out);
    return;
  }
#endif
  for (ptrdiff_t c = 0; c < count; ++c) out[c] = uf_emit(sums[c], multiplier[c], shift[c], &output);
}

// The taps of a window, along one axis, that fall inside the input: [begin, end). Tap k reads origin + k * dilation.
typedef struct {
  int32_t origin, begin, end;
} uf_taps;

static inline uf_taps uf_taps_inside(int32_t origin, int32_t kernel, int32_t dilation, int32_t size) {
  const int32_t before = origin < 0 ? (-origin + dilation - 1) / dilation : 0;
  const int32_t fitting = origin < size ? (size - origin + dilation - 1) / dilation : 0;
  const uf_taps taps = {origin, before, fitting < kernel ? fitting : kernel};
  return taps;
}

// One output pixel of an operator with a window: where it lies, and which taps it has.
typedef struct {
  const uint8_t *image;  // the sample's first byte
  uf_taps rows, columns;
} uf_pixel;

// The pixel of that index among all output pixels of the batch. Images are NHWC.
static inline uf_pixel uf_pixel_at(const uf_node *node, const uf_window *window, int64_t index) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const ptrdiff_t line = (ptrdiff_t)index / output->shape[2], sample = line / output->shape[1];
  const int32_t column = (int32_t)((ptrdiff_t)index - line * output->shape[2]);
  const int32_t row = (int32_t)(line - sample * output->shape[1]);
  const uf_pixel pixel = {
      input->data + (ptrdiff_t)uf_volume(input, 1, 4) * sample * input->width,
      uf_taps_inside(row * window->stride_h - window->pad_top, window->kernel_h, window->dilation_h, input->shape[1]),
      uf_taps_inside(column * window->stride_w - window->pad_left, window->kernel_w, window->dilation_w,
                     input->shape[2]),
  };
  return pixel;
}

// The input code, channel 0, under tap (i, j) of a pixel.
static inline const uint8_t *uf_tap(const uf_node *node, const uf_window *window, const uf_pixel *pixel, int32_t i,
                                    int32_t j) {
  const uf_tensor *input = node->inputs[0];
  const ptrdiff_t row = pixel->rows.origin + i * window->dilation_h;
  const ptrdiff_t column = pixel->columns.origin + j * window->dilation_w;
  return pixel->image + (row * input->shape[2] + column) * input->shape[3] * input->width;
}

// Output channels [first, first + outputs) of a linear operator, whose rows have `depth` weights each: so many are
// summed together, so that their sums need no memory but registers or the stack.
enum { UF_OUTPUTS = 4 };

typedef struct {
  ptrdiff_t first, depth;
  int32_t outputs;  // at most UF_OUTPUTS
} uf_rows;

// Each channel's bias. Of a whole block the size is constant, and no function is called.
static inline void uf_start_sums(const uf_linear *linear, const uf_rows *rows, int32_t *sums) {
  if (rows->outputs == UF_OUTPUTS) {
    memcpy(sums, linear->bias + rows->first, UF_OUTPUTS * sizeof(int32_t));
  } else {
    memcpy(sums, linear->bias + rows->first, (size_t)rows->outputs * sizeof(int32_t));
  }
}

// Adds to each channel's sum the products of `count` inputs with the weights from `at` on. How the weights are kept is
// said here, unless the file that includes this one has said otherwise.
#ifndef UF_ADD_PRODUCTS
#define UF_ADD_PRODUCTS uf_add_products
#define UF_PACKING
static inline void uf_add_products(const uf_node *node, const uf_rows *rows, ptrdiff_t at, const uint8_t *x,
                                   ptrdiff_t count, int32_t *sums) {
  const uf_linear *linear = &node->params.linear;
  const int8_t *weight = linear->weight + rows->first * rows->depth + at;
#ifdef UF_CORTEX_M
  if (rows->outputs == 4 && linear->weight_zero_point == 0) {
    uf_dot_four_rows(x, linear->input_zero_point, weight, rows->depth, count, sums);
    return;
  }
#endif
  for (int32_t o = 0; o < rows->outputs; ++o) {
    sums[o] = uf_dot(sums[o], x, linear->input_zero_point, weight + o * rows->depth, linear->weight_zero_point, count);
  }
}
#endif

#endif  // UNFLOAT_KERNELS_SCALAR_H_
