// Convolution on Cortex-M by strips (C99): pixels side by side, whose taps all lie inside the image, by four outputs.

#ifndef UNFLOAT_KERNELS_CONV2D_STRIPS_H_
#define UNFLOAT_KERNELS_CONV2D_STRIPS_H_

#include "../scalar.h"

enum { SMALLEST_STRIP = 3 };  // for fewer pixels, widening their weights costs about what it saves

// Whether a pixel's taps of one row lie side by side, and there are outputs for a strip.
static bool has_strips(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  return linear->groups == 1 && linear->weight_zero_point == 0 &&
         (linear->window.dilation_w == 1 || linear->window.kernel_w == 1) && node->output->shape[3] >= UF_STRIP_ROWS;
}

// Whether every output pixel sees the input pixel of its own index, and no other.
static bool is_pointwise(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  return window->kernel_h == 1 && window->kernel_w == 1 && window->stride_h == 1 && window->stride_w == 1 &&
         window->pad_top == 0 && window->pad_left == 0 && input->shape[1] == output->shape[1] &&
         input->shape[2] == output->shape[2];
}

// How many pixels from this one on make a strip, at most `left`; 0 if none.
static int32_t strip_at(const uf_node *node, const uf_pixel *pixel, int64_t left) {
  const uf_window *window = &node->params.linear.window;
  const int32_t room = node->inputs[0]->shape[2] - window->kernel_w - pixel->columns.origin;
  if (!has_strips(node) || pixel->columns.origin < 0 || room < 0) return 0;
  if (!is_pointwise(node)) {
    const int32_t inside = room / window->stride_w + 1;
    left = inside < left ? inside : left;
  }
  return left < SMALLEST_STRIP ? 0 : left < UF_STRIP_PIXELS ? (int32_t)left : UF_STRIP_PIXELS;
}

// The accumulators of outputs [first, first + UF_STRIP_ROWS) to bytes.
static void emit_outputs(const uf_linear *linear, const int32_t *sums, int32_t pixels, ptrdiff_t first,
                         ptrdiff_t channels, uint8_t *out) {
  const int32_t *multiplier = linear->multiplier + first;
  const int8_t *shift = linear->shift + first;
  const uf_output output = linear->output;
  if (output.rounding == QMATH_DOUBLE) {
    uf_emit_strip(sums, pixels, multiplier, shift, output.zero_point, output.clamp_min, output.clamp_max, channels,
                  out);
    return;
  }
  for (int32_t p = 0; p < pixels; ++p, out += channels, sums += UF_STRIP_ROWS) {
    for (int r = 0; r < UF_STRIP_ROWS; ++r) out[r] = uf_emit(sums[r], multiplier[r], shift[r], &output);
  }
}

// Outputs [first, first + UF_STRIP_ROWS) of `pixels` pixels from `pixel` on. Not inlined, for its stack.
static __attribute__((noinline)) void run_outputs(const uf_node *node, const uf_pixel *pixel, int32_t pixels,
                                                  ptrdiff_t first, uint8_t *out) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const ptrdiff_t depth = node->inputs[0]->shape[3], run = window->kernel_w * depth, row = window->kernel_h * run;
  int32_t bias[UF_STRIP_ROWS], sums[UF_STRIP_PIXELS * UF_STRIP_ROWS];
  memcpy(bias, linear->bias + first, sizeof bias);
  for (int32_t p = 0; p < pixels; ++p) memcpy(sums + p * UF_STRIP_ROWS, bias, sizeof bias);
  for (int32_t i = pixel->rows.begin; i < pixel->rows.end; ++i) {
    const int8_t *w = linear->weight + first * row + i * run;
    const uf_strip strip = {uf_tap(node, window, pixel, i, 0), w, pixels, window->stride_w * depth, row, run};
    uf_sum_strip(&strip, linear->input_zero_point, sums);
  }
  emit_outputs(linear, sums, pixels, first, node->output->shape[3], out);
}

// The last outputs, if they are fewer than a strip's, are made with some before them again.
static void run_strip(const uf_node *node, const uf_pixel *pixel, int32_t pixels, uint8_t *out) {
  const ptrdiff_t channels = node->output->shape[3];
  for (ptrdiff_t o = 0; o < channels; o += UF_STRIP_ROWS) {
    const ptrdiff_t first = channels - o < UF_STRIP_ROWS ? channels - UF_STRIP_ROWS : o;
    run_outputs(node, pixel, pixels, first, out + first);
  }
}

#endif  // UNFLOAT_KERNELS_CONV2D_STRIPS_H_
