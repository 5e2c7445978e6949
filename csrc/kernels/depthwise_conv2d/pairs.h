// Depthwise convolution, one output channel for each input channel, by pairs of taps and blocks of 16 channels (C11).
// The file that includes it has said how it multiplies:
//
//   weight_type    of packed weights
//   weight_place   (channel, 0 or 1) -> where in a pair of taps a weight lies
//   LOWERED        what bytes are lowered by before they are multiplied: 0, or 128 to become signed
//   LEAST_WEIGHT   -128, or -127
//   run_block      (taps, channel, count, pairs, block) -> the bytes of `count` channels of a pixel, from `channel` on
//
// A block is a uf_block16 and its weights [pairs][16][2]. Padding points to zero points.

typedef struct {
  const uf_window *window;
  const uf_tensor *input, *output;
  int32_t channels, blocks;
  int32_t taps, pairs;
  size_t margin_bytes;  // of zero points, at the start of the packed memory
  size_t block_bytes;
} depthwise_plan;

static depthwise_plan make_plan(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  depthwise_plan plan = {.window = window, .input = node->inputs[0], .output = node->output};
  plan.channels = plan.output->shape[3];
  plan.blocks = (plan.channels + UF_BLOCK_CHANNELS - 1) / UF_BLOCK_CHANNELS;
  plan.taps = window->kernel_h * window->kernel_w;
  plan.pairs = (plan.taps + 1) / 2;
  plan.margin_bytes =
      (size_t)(plan.channels + UF_BLOCK_CHANNELS + UF_SLACK + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
  plan.block_bytes = sizeof(uf_block16) + (size_t)plan.pairs * PAIR_WEIGHTS * sizeof(weight_type);
  return plan;
}

static bool supports(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  if (linear->weight_zero_point != 0 || node->output->shape[3] != node->inputs[0]->shape[3]) return false;
  const int64_t count = (int64_t)linear->window.kernel_h * linear->window.kernel_w * node->output->shape[3];
  return uf_weights_within(linear->weight, count, LEAST_WEIGHT, INT8_MAX);
}

// --- At load. ---

static size_t packed_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return plan.margin_bytes + (size_t)plan.blocks * plan.block_bytes;
}

// Pointers to a pixel's taps, the last one twice where their number is odd.
static size_t scratch_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return 2 * (size_t)plan.pairs * sizeof(uint8_t *);
}

static int lane_channel(int vector, int lane) { return UF_LANES * vector + lane; }

static void pack_block(const depthwise_plan *plan, const uf_linear *linear, int32_t block, uint8_t *packed) {
  const int32_t first = block * UF_BLOCK_CHANNELS, left = plan->channels - first;
  const int count = left < UF_BLOCK_CHANNELS ? left : UF_BLOCK_CHANNELS;
  uf_weight_sums sums[UF_BLOCK_CHANNELS] = {{0, 0}};
  weight_type *weights = (weight_type *)(packed + sizeof(uf_block16));
  for (int32_t tap = 0; tap < plan->taps; ++tap) {
    for (int c = 0; c < count; ++c) {
      const int8_t w = linear->weight[(int64_t)tap * plan->channels + first + c];
      weights[tap / 2 * PAIR_WEIGHTS + weight_place(c, tap % 2)] = w;
      uf_add_weight(&sums[c], w);
    }
  }
  uf_pack_block16(linear, first, count, sums, LOWERED, lane_channel, (uf_block16 *)packed);
}

static void pack(const uf_node *node, void *packed) {
  const depthwise_plan plan = make_plan(node);
  uint8_t *blocks = (uint8_t *)packed + plan.margin_bytes;
  memset(packed, node->params.linear.input_zero_point, plan.margin_bytes);
  for (int32_t block = 0; block < plan.blocks; ++block) {
    pack_block(&plan, &node->params.linear, block, blocks + (size_t)block * plan.block_bytes);
  }
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
