// Fully connected on int16 codes (C11, AVX-512 VNNI). A thread's share is of blocks of output channels.

#include "../words_avx512vnni.h"

static int64_t last(const uf_tensor *tensor) { return tensor->shape[tensor->rank - 1]; }

static size_t packed_size(const uf_node *node) {
  return (size_t)uf_word_blocks(last(node->output)) * uf_word_block_bytes(last(node->inputs[0]));
}

static void pack(const uf_node *node, void *packed) {
  uf_pack_words(&node->params.linear, last(node->output), last(node->inputs[0]), packed);
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_output output = node->params.linear.output;
  const int64_t depth = last(node->inputs[0]), channels = last(node->output);
  const int64_t count = uf_size(node->output) / channels;
  const uf_range blocks = uf_share(uf_word_blocks(channels), 1, thread, threads);
  for (int64_t block = blocks.begin; block < blocks.end; ++block) {
    for (int64_t at = 0; at < count; at += WORD_TILE) {
      const int tile = count - at < WORD_TILE ? (int)(count - at) : WORD_TILE;
      const int16_t *rows[WORD_TILE];
      for (int r = 0; r < tile; ++r) rows[r] = uf_words(node->inputs[0]->data) + (at + r) * depth;
      uf_word_tile(node->packed, depth, block, rows, tile, &output, channels,
                   uf_words_of(node->output) + at * channels);
    }
  }
}

const uf_kernel fully_connected__avx512vnni_int16 = {
    .name = "fully_connected__avx512vnni_int16",
    .level = UF_AVX512VNNI,
    .packed_size = packed_size,
    .pack = pack,
    .run = run,
    .storage = UF_WORDS,
};
