// What the scalar kernels share (C99). Plain loops over contiguous channels, which compilers vectorise.

#ifndef UNFLOAT_KERNELS_SCALAR_H_
#define UNFLOAT_KERNELS_SCALAR_H_

#include <string.h>

#include "kernel.h"

// Inputs widened to 16 bits, their zero point subtracted: done once for all the output channels that read them.
static inline void uf_widen(const uint8_t *x, int64_t count, int32_t zero_point, int16_t *widened) {
  for (int64_t i = 0; i < count; ++i) widened[i] = (int16_t)(x[i] - zero_point);
}

// bias + sum (w - zero_point) * x. It starts from the bias because the proof that no accumulator overflows does: the
// products alone may not fit. Both factors fit 16 bits, and saying so lets compilers use their 16-bit multiply-add.
static inline int32_t uf_dot(int32_t bias, const int16_t *x, const int8_t *w, int64_t count, int32_t zero_point) {
  int32_t sum = bias;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * (int16_t)(w[i] - zero_point);
  return sum;
}

// Rescales the accumulators of output channels [first, first + count) to bytes.
static inline void uf_emit_channels(const uf_linear *linear, const int32_t *sums, int64_t first, int64_t count,
                                    uint8_t *out) {
  const int32_t *multiplier = linear->multiplier + first;
  const int8_t *shift = linear->shift + first;
  const uf_output output = linear->output;
  for (int64_t c = 0; c < count; ++c) out[c] = uf_emit(sums[c], multiplier[c], shift[c], &output);
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
  const int32_t column = (int32_t)(index % output->shape[2]);
  const int32_t row = (int32_t)(index / output->shape[2] % output->shape[1]);
  const int64_t sample = index / output->shape[2] / output->shape[1];
  const uf_pixel pixel = {
      input->data + sample * uf_volume(input, 1, 4) * input->width,
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
  const int64_t row = pixel->rows.origin + i * window->dilation_h;
  const int64_t column = pixel->columns.origin + j * window->dilation_w;
  return pixel->image + (row * input->shape[2] + column) * input->shape[3] * input->width;
}

// How a kernel keeps its weights: as they are, unless the file that includes this one has said otherwise.
#ifndef UF_DOT
#define UF_DOT(node, o, x, count)                                                               \
  uf_dot((node)->params.linear.bias[o], x, (node)->params.linear.weight + (o) * (count), count, \
         (node)->params.linear.weight_zero_point)
#define UF_PACKING
#endif

#endif  // UNFLOAT_KERNELS_SCALAR_H_
