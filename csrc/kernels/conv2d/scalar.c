// Convolution, NHWC: acc[o] = bias[o] + sum (w - Zw) * (x - Zx) over the window's taps inside the image (eq. 13).

#include "../scalar.h"

typedef struct {
  int32_t taps, depth;  // of the window; channels of one group
  int16_t *patch;       // [groups][taps][depth]: the inputs of one pixel
  int32_t *sums;        // [outputs]
} workspace;

static int64_t patch_size(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  return (int64_t)window->kernel_h * window->kernel_w * node->inputs[0]->shape[3];
}

static size_t scratch_size(const uf_node *node) {
  return (size_t)node->output->shape[3] * sizeof(int32_t) + (size_t)patch_size(node) * sizeof(int16_t);
}

static workspace workspace_of(const uf_node *node, int thread) {
  const uf_linear *linear = &node->params.linear;
  int32_t *sums = uf_scratch(node, thread);
  const workspace work = {linear->window.kernel_h * linear->window.kernel_w, node->inputs[0]->shape[3] / linear->groups,
                          (int16_t *)(sums + node->output->shape[3]), sums};
  return work;
}

// Collects the inputs under a window; 0, which stands for padding, outside the image.
static void gather(const uf_node *node, const uf_pixel *pixel, const workspace *work) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  memset(work->patch, 0, (size_t)patch_size(node) * sizeof(int16_t));
  for (int32_t i = pixel->rows.begin; i < pixel->rows.end; ++i) {
    for (int32_t j = pixel->columns.begin; j < pixel->columns.end; ++j) {
      const uint8_t *x = uf_tap(node, window, pixel, i, j);
      int16_t *tap = work->patch + (int64_t)(i * window->kernel_w + j) * work->depth;
      for (int32_t group = 0; group < linear->groups; ++group, x += work->depth, tap += work->taps * work->depth) {
        uf_widen(x, work->depth, linear->input_zero_point, tap);
      }
    }
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_linear *linear = &node->params.linear;
  const workspace work = workspace_of(node, thread);
  const int32_t channels = node->output->shape[3], per_group = channels / linear->groups;
  const int64_t count = (int64_t)work.taps * work.depth;
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), 1, thread, threads);
  for (int64_t index = pixels.begin; index < pixels.end; ++index) {
    const uf_pixel pixel = uf_pixel_at(node, &linear->window, index);
    gather(node, &pixel, &work);
    for (int32_t o = 0; o < channels; ++o) {
      const int16_t *x = work.patch + o / per_group * count;
      work.sums[o] = UF_DOT(node, o, x, count);
    }
    uf_emit_channels(linear, work.sums, 0, channels, node->output->data + index * channels);
  }
}

UF_DEFINE_KERNEL(conv2d, UF_PACKING.scratch_size = scratch_size, .run = run);
