// Transposed convolution, NHWC: acc[o] = bias[o] + sum (w - Zw) * (x - Zx) over the pixels that reach it (eq. 13).

#include "taps.h"

// The products of the input pixels that reach an output pixel, with the weights of the taps by which they do.
static void add_taps(const uf_node *node, const uf_made_pixel *pixel, const uf_rows *rows, int32_t *sums) {
  const uf_window *window = &node->params.linear.window;
  const int32_t depth = node->inputs[0]->shape[3];
  for (int32_t i = 0; i < pixel->rows.count; ++i) {
    for (int32_t j = 0; j < pixel->columns.count; ++j) {
      const ptrdiff_t at = (ptrdiff_t)uf_made_tap(window, pixel, i, j) * depth;
      UF_ADD_PRODUCTS(node, rows, at, uf_made_input(node, pixel, i, j), depth, sums);
    }
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3];
  const ptrdiff_t row = (ptrdiff_t)linear->window.kernel_h * linear->window.kernel_w * node->inputs[0]->shape[3];
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_made_pixel pixel = uf_made_pixel_at(node, index);
    uint8_t *out = node->output->data + index * channels;
    for (int32_t o = 0; o < channels; o += UF_OUTPUTS) {
      const uf_rows rows = {o, row, channels - o < UF_OUTPUTS ? channels - o : UF_OUTPUTS};
      int32_t sums[UF_OUTPUTS];
      uf_start_sums(linear, &rows, sums);
      add_taps(node, &pixel, &rows, sums);
      uf_emit_channels(linear, sums, o, rows.outputs, out + o);
    }
  }
}

UF_DEFINE_KERNEL(transpose_conv2d, UF_PACKING.run = run);
