// What the depthwise kernels of 16-channel blocks pack: weights of two taps side by side (C11). The file that includes
// it has said how it multiplies:
//
//   weight_type    of packed weights
//   weight_place   (channel, 0 or 1) -> where in a pair of taps a weight lies
//   LOWERED        what bytes are lowered by before they are multiplied: 0, or 128 to become signed
//   LEAST_WEIGHT   -128, or -127
//   pairs_of       (window) -> how many pairs its taps make
//   half_of        (window, tap) -> the tap's place among the halves of pairs, as they follow each other
//
// A block is a uf_block16 and its weights [pairs][16][2]; halves without a tap are zero. Zero points go before the
// blocks, for padding to point to.

enum { PAIR_WEIGHTS = 2 * UF_BLOCK_CHANNELS };

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
  plan.blocks = (int32_t)uf_divide_up(plan.channels, UF_BLOCK_CHANNELS);
  plan.taps = window->kernel_h * window->kernel_w;
  plan.pairs = pairs_of(window);
  const int64_t margin = (int64_t)plan.channels + UF_BLOCK_CHANNELS + UF_SLACK;
  plan.margin_bytes = (size_t)uf_divide_up(margin, UF_ALIGNMENT) * UF_ALIGNMENT;
  plan.block_bytes = sizeof(uf_block16) + (size_t)plan.pairs * PAIR_WEIGHTS * sizeof(weight_type);
  return plan;
}

// Whether a node has one output channel for each input channel, and weights that can be multiplied.
static bool is_plain(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  if (linear->weight_zero_point != 0 || node->output->shape[3] != node->inputs[0]->shape[3]) return false;
  const int64_t count = (int64_t)linear->window.kernel_h * linear->window.kernel_w * node->output->shape[3];
  return uf_weights_within(linear->weight, count, LEAST_WEIGHT, INT8_MAX);
}

static size_t packed_size(const uf_node *node) {
  const depthwise_plan plan = make_plan(node);
  return plan.margin_bytes + (size_t)plan.blocks * plan.block_bytes;
}

static int lane_channel(int vector, int lane) { return UF_LANES * vector + lane; }

static void pack_block(const depthwise_plan *plan, const uf_linear *linear, int32_t block, uint8_t *packed) {
  const int32_t first = block * UF_BLOCK_CHANNELS, left = plan->channels - first;
  const int count = left < UF_BLOCK_CHANNELS ? left : UF_BLOCK_CHANNELS;
  uf_weight_sums sums[UF_BLOCK_CHANNELS];
  weight_type *weights = (weight_type *)(packed + sizeof(uf_block16));
  for (int c = 0; c < count; ++c) {
    const int8_t *weight = linear->weight + first + c;
    for (int32_t tap = 0; tap < plan->taps; ++tap) {
      const int32_t half = half_of(plan->window, tap);
      weights[half / 2 * PAIR_WEIGHTS + weight_place(c, half % 2)] = weight[(int64_t)tap * plan->channels];
    }
    sums[c] = uf_sum_weights(weight, plan->taps, plan->channels);
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
