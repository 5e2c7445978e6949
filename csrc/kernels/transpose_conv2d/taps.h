// Which pixels add to an output pixel of a transposed convolution, and through which taps (C99).

#ifndef UNFLOAT_KERNELS_TRANSPOSE_CONV2D_TAPS_H_
#define UNFLOAT_KERNELS_TRANSPOSE_CONV2D_TAPS_H_

#include "../words.h"

// Along one axis: row `at` of what is made gets tap `first` from input row `input`, tap first + stride from the row
// before it, and so on, `count` in all. Taps below `first` would read rows past the image's end.
typedef struct {
  int32_t first, input, count;
} uf_made;

static inline uf_made uf_made_of(int32_t at, int32_t kernel, int32_t stride, int32_t size) {
  const int32_t past = at / stride - (size - 1);
  const int32_t first = at % stride + (past > 0 ? past * stride : 0);
  const int32_t input = (at - first) / stride;
  const int32_t fitting = first < kernel ? (kernel - first + stride - 1) / stride : 0;
  const uf_made made = {first, input, fitting < input + 1 ? fitting : input + 1};
  return made;
}

typedef struct {
  const uint8_t *image;  // the sample's first byte
  uf_made rows, columns;
} uf_made_pixel;

// The pixel of that index among all output pixels of the batch. Images are NHWC.
static inline uf_made_pixel uf_made_pixel_at(const uf_node *node, int64_t index) {
  const uf_window *window = &node->params.linear.window;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int32_t column = (int32_t)(index % output->shape[2]) + window->pad_left;
  const int32_t row = (int32_t)(index / output->shape[2] % output->shape[1]) + window->pad_top;
  const int64_t sample = index / output->shape[2] / output->shape[1];
  const uf_made_pixel pixel = {input->data + sample * uf_volume(input, 1, 4) * input->width,
                               uf_made_of(row, window->kernel_h, window->stride_h, input->shape[1]),
                               uf_made_of(column, window->kernel_w, window->stride_w, input->shape[2])};
  return pixel;
}

// Tap (i, j) of those that add: the input pixel's first channel, and its place in the kernel.
static inline const uint8_t *uf_made_input(const uf_node *node, const uf_made_pixel *pixel, int32_t i, int32_t j) {
  const uf_tensor *input = node->inputs[0];
  const int64_t at = (int64_t)(pixel->rows.input - i) * input->shape[2] + pixel->columns.input - j;
  return pixel->image + at * input->shape[3] * input->width;
}

static inline int32_t uf_made_tap(const uf_window *window, const uf_made_pixel *pixel, int32_t i, int32_t j) {
  return (pixel->rows.first + i * window->stride_h) * window->kernel_w + pixel->columns.first + j * window->stride_w;
}

#endif  // UNFLOAT_KERNELS_TRANSPOSE_CONV2D_TAPS_H_
