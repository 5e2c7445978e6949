// Convolution, NHWC: acc[o] = bias[o] + sum (w - Zw) * (x - Zx) over the window's taps inside the image (eq. 7).

#include "../scalar.h"

// The accumulator of one output channel at one pixel.
static int32_t accumulate(const uf_node *node, const uf_pixel *pixel, int32_t channel) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const int32_t depth = node->inputs[0]->shape[3] / linear->groups;
  const int32_t group = channel / (node->output->shape[3] / linear->groups);
  const int8_t *weight = linear->weight + (int64_t)channel * window->kernel_h * window->kernel_w * depth;
  // Neighbouring taps of a row are contiguous in the image and in the weights: one long dot product instead of several.
  const bool contiguous = linear->groups == 1 && window->dilation_w == 1;
  const int32_t step = contiguous ? pixel->columns.end - pixel->columns.begin : 1;
  int32_t sum = linear->bias[channel];
  for (int32_t i = pixel->rows.begin; i < pixel->rows.end; ++i) {
    for (int32_t j = pixel->columns.begin; j < pixel->columns.end; j += step) {
      const uint8_t *x = uf_tap(node, window, pixel, i, j) + group * depth;
      sum += uf_dot(x, weight + ((int64_t)i * window->kernel_w + j) * depth, (int64_t)step * depth, linear);
    }
  }
  return sum;
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const int32_t channels = node->output->shape[3];
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, &linear->window, index);
    uint8_t *out = node->output->data + index * channels;
    for (int32_t o = 0; o < channels; ++o) out[o] = uf_emit_channel(linear, o, accumulate(node, &pixel, o));
  }
}

const uf_kernel conv2d__scalar = {.name = "conv2d__scalar", .level = UF_SCALAR, .run = run};
