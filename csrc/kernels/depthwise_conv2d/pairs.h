// Depthwise convolution of any window, pixel by pixel: taps in pairs as they follow each other (C11). The file that
// includes it has said how it multiplies (see packed_pairs.h), and
//
//   run_block      (taps, channel, count, pairs, block) -> the bytes of `count` channels of a pixel, from `channel` on

static int32_t pairs_of(const uf_window *window) { return (window->kernel_h * window->kernel_w + 1) / 2; }

static int32_t half_of(const uf_window *window, int32_t tap) {
  (void)window;
  return tap;
}

#include "packed_pairs.h"

static bool supports(const uf_node *node) { return is_plain(node); }

// Pointers to a pixel's taps, the last one twice where their number is odd.
static size_t scratch_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return 2 * (size_t)plan.pairs * sizeof(uint8_t *);
}

// --- Running. ---

static void point_at_taps(const depthwise_plan *plan, int64_t pixel, const uint8_t *outside, const uint8_t **taps) {
  const uf_window *window = plan->window;
  const uf_tensor *input = plan->input;
  const int64_t columns = plan->output->shape[2], rows = plan->output->shape[1];
  const int64_t first_row = pixel / columns % rows * window->stride_h - window->pad_top;
  const int64_t first_column = pixel % columns * window->stride_w - window->pad_left;
  const uint8_t *image = input->data + pixel / columns / rows * uf_volume(input, 1, 4);
  for (int32_t i = 0; i < window->kernel_h; ++i) {
    const int64_t row = first_row + (int64_t)i * window->dilation_h;
    for (int32_t j = 0; j < window->kernel_w; ++j) {
      const int64_t column = first_column + (int64_t)j * window->dilation_w;
      const bool inside = row >= 0 && row < input->shape[1] && column >= 0 && column < input->shape[2];
      *taps++ = inside ? image + (row * input->shape[2] + column) * plan->channels : outside;
    }
  }
  if (plan->taps % 2 != 0) *taps = taps[-1];  // its weights are zero
}

// Whole blocks, and what is left.
UF_INLINE void run_pixel(const depthwise_plan *plan, const uint8_t *const *taps, int pairs, const uint8_t *blocks,
                         uint8_t *out) {
  const int32_t rest = plan->channels % UF_BLOCK_CHANNELS, end = plan->channels - rest;
  for (int32_t channel = 0; channel < end; channel += UF_BLOCK_CHANNELS, blocks += plan->block_bytes) {
    uf_store_bytes(out + channel, run_block(taps, channel, UF_BLOCK_CHANNELS, pairs, (const uf_block16 *)blocks));
  }
  if (rest > 0) uf_store_first(out + end, run_block(taps, end, rest, pairs, (const uf_block16 *)blocks), rest);
}

static void run(const uf_node *node, int thread, int threads) {
  const depthwise_plan plan = make_plan(node);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  const uint8_t *outside = node->packed, *blocks = outside + plan.margin_bytes;
  const uint8_t **taps = uf_scratch(node, thread);
  for (int64_t pixel = pixels.begin; pixel < pixels.end; ++pixel) {
    uint8_t *out = node->output->data + pixel * plan.channels;
    point_at_taps(&plan, pixel, outside, taps);
    if (plan.pairs == 5) {  // 3x3
      run_pixel(&plan, taps, 5, blocks, out);
    } else {
      run_pixel(&plan, taps, plan.pairs, blocks, out);
    }
  }
}
