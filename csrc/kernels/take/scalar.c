// The rows of a table that numbers name: the same table for every sample, or each sample's own.

#include <string.h>

#include "kernel.h"

// Numbers below 0 count from the end; one outside of the table takes the row next to it.
static void run(const uf_node *node, int thread, int threads) {
  const uf_tensor *table = node->inputs[0], *numbers = node->inputs[1];
  const int16_t *number = (const int16_t *)(const void *)numbers->data;
  const int32_t rows = table->shape[1];
  const int64_t row = uf_volume(table, 2, table->rank) * table->width;
  const int64_t sample = table->shape[0] > 1 ? rows * row : 0;
  const int64_t taken = uf_volume(numbers, 1, numbers->rank);
  const uf_range share = uf_share(uf_size(numbers), 1, thread, threads);
  for (int64_t at = share.begin; at < share.end; ++at) {
    const int32_t n = qmath_clamp(number[at] < 0 ? number[at] + rows : number[at], 0, rows - 1);
    memcpy(node->output->data + at * row, table->data + at / taken * sample + n * row, (size_t)row);
  }
}

UF_DEFINE_KERNEL(take, .storage = UF_ANY_STORAGE, .run = run);
