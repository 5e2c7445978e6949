// Depthwise convolution, NHWC: each output channel o sees input channel o / m alone, m = output / input channels.

#include "../scalar.h"

// So many output channels are summed together, on the stack, of which a microcontroller has little.
#ifdef UF_ENGINE
enum { BLOCK = 128 };
#else
enum { BLOCK = 32 };
#endif

// Adds one tap to the accumulators of output channels [first, first + count), `times` to an input channel.
static void add_tap(const uf_linear *linear, const uint8_t *x, const int8_t *w, int32_t first, int32_t count,
                    int32_t times, int32_t *sums) {
  const int32_t input_zero_point = linear->input_zero_point, weight_zero_point = linear->weight_zero_point;
  w += first;
  if (times == 1) {
    x += first;
    for (int32_t c = 0; c < count; ++c) {
      sums[c] += (int16_t)(x[c] - input_zero_point) * (int16_t)(w[c] - weight_zero_point);
    }
    return;
  }
  x += first / times;
  for (int32_t o = 0, left = times - first % times; o < count; ++x, left = times) {
    const int32_t end = o + left < count ? o + left : count;
    for (; o < end; ++o) sums[o] += (*x - input_zero_point) * (w[o] - weight_zero_point);
  }
}

#ifdef UF_CORTEX_M
static uf_patch patch_of(const uf_node *node, const uf_pixel *pixel) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const ptrdiff_t inputs = node->inputs[0]->shape[3], outputs = node->output->shape[3];
  const int32_t i = pixel->rows.begin, j = pixel->columns.begin;
  const uf_patch patch = {
      .x = uf_tap(node, window, pixel, i, j),
      .w = linear->weight + (i * window->kernel_w + j) * outputs,
      .rows = pixel->rows.end - i,
      .columns = pixel->columns.end - j,
      .x_step = window->dilation_w * inputs,
      .x_row = window->dilation_h * node->inputs[0]->shape[2] * inputs,
      .w_step = outputs,
      .w_row = window->kernel_w * outputs,
  };
  return patch;
}

// Adds all taps of a pixel, with sums in registers from the first to the last. BLOCK is a multiple of four.
static void add_patch(const uf_node *node, const uf_patch *patch, int32_t first, int32_t count, int32_t times,
                      int32_t *sums) {
  const int32_t zero_point = node->params.linear.input_zero_point;
  if (times == 1) {
    uf_sum_patch(patch, zero_point, first, count, sums);
    return;
  }
  for (int32_t c = 0; c < count; c += 4) {
    uf_sum_four_multiples(patch, zero_point, (first + c) / times, first + c, sums + c);
  }
}
#endif

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const int32_t channels = node->output->shape[3], times = channels / node->inputs[0]->shape[3];
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, window, index);
    for (int32_t first = 0; first < channels; first += BLOCK) {
      const int32_t count = channels - first < BLOCK ? channels - first : BLOCK;
      int32_t sums[BLOCK];
      memcpy(sums, linear->bias + first, (size_t)count * sizeof(int32_t));
#ifdef UF_CORTEX_M
      if (linear->weight_zero_point == 0 && (times == 1 || times % 4 == 0)) {
        const uf_patch patch = patch_of(node, &pixel);
        add_patch(node, &patch, first, count, times, sums);
        uf_emit_channels(linear, sums, first, count, node->output->data + index * channels + first);
        continue;
      }
#endif
      for (int32_t i = pixel.rows.begin; i < pixel.rows.end; ++i) {
        for (int32_t j = pixel.columns.begin; j < pixel.columns.end; ++j) {
          const int8_t *weight = linear->weight + ((int64_t)i * window->kernel_w + j) * channels;
          add_tap(linear, uf_tap(node, window, &pixel, i, j), weight, first, count, times, sums);
        }
      }
      uf_emit_channels(linear, sums, first, count, node->output->data + index * channels + first);
    }
  }
}

UF_DEFINE_KERNEL(depthwise_conv2d, .run = run);
