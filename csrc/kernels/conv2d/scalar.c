// Convolution, NHWC: acc[o] = bias[o] + sum (w - Zw) * (x - Zx) over the window's taps inside the image (eq. 13).

#include "../scalar.h"
#if defined(UF_CORTEX_M) && !defined(UNFLOAT_KERNELS_NIBBLES_H_)
#include "strips.h"
#endif

// The products of a pixel's taps, whose channels begin at `first_channel` and are `depth` many, with their weights.
// Taps of a row lie side by side, and are one run, unless dilation or groups part them.
static void add_taps(const uf_node *node, const uf_pixel *pixel, const uf_rows *rows, int32_t first_channel,
                     int32_t depth, int32_t *sums) {
  const uf_window *window = &node->params.linear.window;
  const int32_t taps = pixel->columns.end - pixel->columns.begin;
  const bool joined = window->dilation_w == 1 && depth == node->inputs[0]->shape[3];
  const int32_t step = joined ? taps : 1;
  for (int32_t i = pixel->rows.begin; i < pixel->rows.end; ++i) {
    for (int32_t j = pixel->columns.begin; j < pixel->columns.end; j += step) {
      const uint8_t *x = uf_tap(node, window, pixel, i, j) + first_channel;
      UF_ADD_PRODUCTS(node, rows, (ptrdiff_t)(i * window->kernel_w + j) * depth, x, (ptrdiff_t)step * depth, sums);
    }
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t groups = linear->groups, channels = node->output->shape[3], per_group = channels / groups;
  const int32_t depth = node->inputs[0]->shape[3] / groups;
  const ptrdiff_t row = (ptrdiff_t)linear->window.kernel_h * linear->window.kernel_w * depth;
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, &linear->window, index);
    uint8_t *out = node->output->data + index * channels;
#ifdef UNFLOAT_KERNELS_CONV2D_STRIPS_H_
    const int32_t strip = strip_at(node, &pixel, pixels.end - index);
    if (strip > 0) {
      run_strip(node, &pixel, strip, out);
      index += strip - 1;
      continue;
    }
#endif
    for (int32_t o = 0, left; o < channels; o += left < UF_OUTPUTS ? left : UF_OUTPUTS) {
      left = per_group - o % per_group;  // of the group
      const uf_rows rows = {o, row, left < UF_OUTPUTS ? left : UF_OUTPUTS};
      int32_t sums[UF_OUTPUTS];
      uf_start_sums(linear, &rows, sums);
      add_taps(node, &pixel, &rows, o / per_group * depth, depth, sums);
      uf_emit_channels(linear, sums, o, rows.outputs, out + o);
    }
  }
}

UF_DEFINE_KERNEL(conv2d, UF_PACKING.run = run);
