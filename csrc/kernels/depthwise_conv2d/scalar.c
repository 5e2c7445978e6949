// Depthwise convolution, NHWC: each output channel o sees input channel o / m alone, m = output / input channels.

#include "../scalar.h"

static size_t scratch_size(const uf_node *node) { return (size_t)node->output->shape[3] * sizeof(int32_t); }

// Adds one tap to the accumulators of all output channels.
static void add_tap(const uf_linear *linear, const uint8_t *x, const int8_t *w, int32_t inputs, int32_t times,
                    int32_t *sums) {
  const int32_t input_zero_point = linear->input_zero_point, weight_zero_point = linear->weight_zero_point;
  if (times == 1) {
    for (int32_t c = 0; c < inputs; ++c) {
      sums[c] += (int16_t)(x[c] - input_zero_point) * (int16_t)(w[c] - weight_zero_point);
    }
    return;
  }
  for (int32_t c = 0; c < inputs; ++c) {
    for (int32_t o = c * times; o < (c + 1) * times; ++o) {
      sums[o] += (x[c] - input_zero_point) * (w[o] - weight_zero_point);
    }
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const int32_t inputs = node->inputs[0]->shape[3], channels = node->output->shape[3];
  int32_t *sums = uf_scratch(node, thread);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    memcpy(sums, linear->bias, (size_t)channels * sizeof(int32_t));
    for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
      for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
        const int8_t *weight = linear->weight + ((int64_t)i * window->kernel_w + j) * channels;
        add_tap(linear, uf_tap(node, window, &pixel, i, j), weight, inputs, channels / inputs, sums);
      }
    }
    uf_emit_channels(linear, sums, 0, channels, node->output->data + index * channels);
  }
}

UF_DEFINE_KERNEL(depthwise_conv2d, .scratch_size = scratch_size, .run = run);
