// What a kernel of winograd.h does at load, and its way through an image (C11). The file that includes it has defined:
//
//   weight_lane     (plan, channel) -> the lane of a block that has a channel's weights
//   pack_constants  (linear, first channel, count, the sums of their weights, plan, block): all but the weights
//   run_block       (task, block, its first channel): from squares' words to stored outputs

// --- At load. ---

static bool is_plain(const uf_linear *linear) {
  const uf_window *window = &linear->window;
  return linear->groups == 1 && linear->weight_zero_point == 0 && window->kernel_h == 3 && window->kernel_w == 3 &&
         window->stride_h == 1 && window->stride_w == 1 && window->dilation_h == 1 && window->dilation_w == 1;
}

// Squares over an image's edges compute outputs that nobody wants, and transforming takes time too.
static bool pays(const winograd_plan *plan) {
  const int64_t wanted = (int64_t)plan->output->shape[1] * plan->output->shape[2];
  const int64_t squares = plan->square_rows * plan->square_columns;
  return squares >= LEAST_SQUARES && 3 * PLACES * squares * WORDS_COST <= 2 * 9 * wanted;
}

static bool sums_fit(const winograd_plan *plan, const int8_t *weight) {
  const int64_t length = 9 * plan->depth;
  if (length * UINT8_MAX * -INT8_MIN < MOST_SUM) return true;
  for (int64_t c = 0; c < plan->channels; ++c) {
    const uf_weight_sums sums = uf_sum_weights(weight + c * length, length, 1);
    if (UINT8_MAX * sums.positive >= MOST_SUM || UINT8_MAX * sums.negative < -MOST_SUM) return false;
  }
  return true;
}

static bool supports(const uf_node *node) {
  if (!is_plain(&node->params.linear)) return false;
  const winograd_plan plan = make_plan(node);
  return plan.depth % DEPTH_GRAIN == 0 && plan.depth >= LEAST_CHANNELS && plan.channels >= LEAST_CHANNELS &&
         plan.depth * plan.channels <= MOST_WEIGHTS && pays(&plan) && sums_fit(&plan, node->params.linear.weight);
}

static size_t packed_size(const uf_node *node) {
  const winograd_plan plan = make_plan(node);
  return plan.margin_bytes + (size_t)plan.blocks * plan.block_bytes;
}

static void pack(const uf_node *node, void *packed) {
  const winograd_plan plan = make_plan(node);
  const uf_linear *linear = &node->params.linear;
  memset(packed, linear->input_zero_point, plan.margin_bytes);
  for (int64_t index = 0; index < plan.blocks; ++index) {
    block_type *block = (block_type *)((uint8_t *)packed + plan.margin_bytes + (size_t)index * plan.block_bytes);
    uf_weight_sums sums[MOST_BLOCK_CHANNELS];
    const int64_t first = index * plan.block_channels, left = plan.channels - first;
    const int count = (int)(left < plan.block_channels ? left : plan.block_channels);
    for (int c = 0; c < count; ++c) {
      const int8_t *weight = linear->weight + (first + c) * 9 * plan.depth;
      pack_channel(&plan, weight, weight_lane(&plan, c), (int16_t *)(void *)(block + 1));
      sums[c] = uf_sum_weights(weight, 9 * plan.depth, 1);
    }
    pack_constants(linear, first, count, sums, &plan, block);
  }
}

static size_t scratch_size(const uf_node *node) {
  const winograd_plan plan = make_plan(node);
  return words_bytes(&plan) + sums_bytes(&plan);
}

// --- Running. ---

// Transforms squares of the batch, from `first` on.
static void transform_squares(const uf_node *node, int64_t first, squares_task *task) {
  const winograd_plan *plan = task->plan;
  for (int64_t i = 0; i < task->count; ++i) {
    const uint8_t *inputs[PLACES];
    task->places[i] = place_of(plan, first + i);
    point_at_inputs(plan, &task->places[i], node->packed, inputs);
    transform_square(inputs, plan->depth, task->words + i * plan->square_bytes, plan->stride * plan->square_bytes);
  }
}

// Lets the follower have whole pixels.
static void follow(const uf_node *node, const squares_task *task) {
  if (node->follower == NULL) return;
  const winograd_plan *plan = task->plan;
  const uf_tensor *image = plan->output;
  for (int64_t i = 0; i < task->count; ++i) {
    const square_place place = task->places[i];
    const int64_t left = image->shape[2] - place.column, columns = left < OUTPUTS ? left : OUTPUTS;
    for (int32_t row = place.row; row < place.row + OUTPUTS && row < image->shape[1]; ++row) {
      const int64_t pixel = (place.sample * image->shape[1] + row) * image->shape[2] + place.column;
      uf_follow(node, pixel * plan->channels, columns * plan->channels);
    }
  }
}

// Threads share squares.
static void run(const uf_node *node, int thread, int threads) {
  const winograd_plan plan = make_plan(node);
  const int64_t squares = plan.output->shape[0] * plan.square_rows * plan.square_columns;
  const uf_range share = uf_share(squares, 1, thread, threads);
  const int64_t count = share.end - share.begin, chunks = uf_divide_up(count, plan.squares);
  const uint8_t *blocks = (const uint8_t *)node->packed + plan.margin_bytes;
  squares_task task = {.plan = &plan, .words = uf_scratch(node, thread)};
  task.sums = (int32_t *)(void *)(task.words + words_bytes(&plan));
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const uf_range part = uf_share(count, 1, (int)chunk, (int)chunks);
    task.count = part.end - part.begin;
    transform_squares(node, share.begin + part.begin, &task);
    for (int64_t index = 0; index < plan.blocks; ++index) {
      const uint8_t *block = blocks + (size_t)index * plan.block_bytes;
      run_block(&task, (const block_type *)(const void *)block, index * plan.block_channels);
    }
    follow(node, &task);
  }
}
