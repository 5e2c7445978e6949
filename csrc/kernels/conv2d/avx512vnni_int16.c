// Convolution on int16 codes (C11, AVX-512 VNNI): patches of some pixels times packed weights. A pointwise convolution
// needs no patches: its rows are the image's own pixels.

#include "../words_avx512vnni.h"

static bool supports(const uf_node *node) { return node->params.linear.groups == 1; }

static int64_t depth_of(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  return (int64_t)window->kernel_h * window->kernel_w * node->inputs[0]->shape[3];
}

static bool is_pointwise(const uf_node *node) {
  const uf_window *window = &node->params.linear.window;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  return window->kernel_h * window->kernel_w == 1 && input->shape[1] == output->shape[1] &&
         input->shape[2] == output->shape[2] && window->stride_h == 1 && window->stride_w == 1 &&
         window->pad_top == 0 && window->pad_left == 0;
}

static size_t packed_size(const uf_node *node) {
  return (size_t)uf_word_blocks(node->output->shape[3]) * uf_word_block_bytes(depth_of(node));
}

static void pack(const uf_node *node, void *packed) {
  uf_pack_words(&node->params.linear, node->output->shape[3], depth_of(node), packed);
}

// Of a patch, with the word that an odd depth reads beyond.
static int64_t patch_words(const uf_node *node) { return 2 * uf_word_steps(depth_of(node)); }

static size_t scratch_size(const uf_node *node) {
  return is_pointwise(node) ? 0 : (size_t)patch_words(node) * WORD_TILE * sizeof(int16_t);
}

// The inputs of pixels [first, first + count).
static void find_rows(const uf_node *node, int64_t first, int count, int16_t *patches, const int16_t **rows) {
  const int64_t size = patch_words(node);
  for (int r = 0; r < count; ++r) {
    if (patches == NULL) {
      rows[r] = uf_words(node->inputs[0]->data) + (first + r) * node->inputs[0]->shape[3];
      continue;
    }
    const uf_pixel pixel = uf_pixel_at(node, &node->params.linear.window, first + r);
    patches[(r + 1) * size - 1] = 0;
    uf_gather_words(node, &pixel, patches + r * size);
    rows[r] = patches + r * size;
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_output output = node->params.linear.output;
  const int64_t channels = node->output->shape[3], depth = depth_of(node);
  const uf_range pixels = uf_share(uf_volume(node->output, 0, 3), WORD_TILE, thread, threads);
  int16_t *patches = is_pointwise(node) ? NULL : uf_scratch(node, thread);
  for (int64_t at = pixels.begin; at < pixels.end; at += WORD_TILE) {
    const int count = pixels.end - at < WORD_TILE ? (int)(pixels.end - at) : WORD_TILE;
    const int16_t *rows[WORD_TILE];
    int16_t *out = uf_words_of(node->output) + at * channels;
    find_rows(node, at, count, patches, rows);
    for (int64_t block = 0; block < uf_word_blocks(channels); ++block) {
      uf_word_tile(node->packed, depth, block, rows, count, &output, channels, out);
    }
  }
}

const uf_kernel conv2d__avx512vnni_int16 = {
    .name = "conv2d__avx512vnni_int16",
    .level = UF_AVX512VNNI,
    .supports = supports,
    .packed_size = packed_size,
    .pack = pack,
    .scratch_size = scratch_size,
    .run = run,
    .storage = UF_WORDS,
};
