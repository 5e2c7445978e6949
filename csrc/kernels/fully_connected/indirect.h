// Fully connected layers as a matrix product (gemm/gemm.h) whose rows are one run each. With one row, as at
// batch 1, every weight is read once and used once: threads share the weights.

#include "../gemm/gemm.h"

enum { PANEL = 48 };  // rows whose pointers are made at once

static uf_gemm_shape shape_of(const uf_node *node) {
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const uf_gemm_shape shape = {output->shape[output->rank - 1], 1, input->shape[input->rank - 1]};
  return shape;
}

static bool supports(const uf_node *node) {
  const uf_gemm_shape shape = shape_of(node);
  return uf_gemm_takes(&UF_GEMM, &shape, 1, &node->params.linear);
}

static size_t packed_size(const uf_node *node) {
  const uf_gemm_shape shape = shape_of(node);
  return UF_GEMM.packed_size(&shape);
}

static void pack(const uf_node *node, void *packed) {
  const uf_gemm_shape shape = shape_of(node);
  UF_GEMM.pack(&node->params.linear, &shape, 0, packed);
}

static size_t scratch_size(const uf_node *node) {
  const uf_gemm_shape shape = shape_of(node);
  return PANEL * sizeof(uint8_t *) + uf_gemm_scratch(&UF_GEMM, &shape);
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_gemm_shape shape = shape_of(node);
  const uf_range blocks = uf_share(uf_gemm_blocks(&UF_GEMM, &shape), 1, thread, threads);
  const int64_t rows = uf_size(node->output) / shape.channels;
  const uint8_t **table = uf_scratch(node, thread);
  uf_gemm gemm = {.shape = shape,
                  .packed = node->packed,
                  .ahead = (const uint8_t *)node->packed + UF_AHEAD,
                  .table = table,
                  .table_stride = PANEL,
                  .out_stride = shape.channels,
                  .scratch = (uint8_t *)(table + PANEL)};
  for (int64_t row = 0; row < rows; row += gemm.rows) {
    gemm.rows = rows - row < PANEL ? rows - row : PANEL;
    gemm.out = node->output->data + row * shape.channels;
    for (int64_t i = 0; i < PANEL; ++i) {
      const int64_t at = row + i < rows ? row + i : rows - 1;
      table[i] = node->inputs[0]->data + at * shape.depth;
    }
    UF_GEMM.run(&gemm, blocks);
  }
}

UF_DEFINE_KERNEL(fully_connected, .supports = supports, .packed_size = packed_size, .pack = pack,
                 .scratch_size = scratch_size, .run = run);
