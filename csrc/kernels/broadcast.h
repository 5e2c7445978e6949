// Elementwise operators of two inputs, with NumPy's broadcasting (C99).

#ifndef UNFLOAT_KERNELS_BROADCAST_H_
#define UNFLOAT_KERNELS_BROADCAST_H_

#include "kernel.h"

// Axes of the output, adjacent ones joined wherever both inputs run through them alike, so that the innermost loop is
// as long as it can be: tensors of equal shape become a single axis. Stride 0 repeats.
typedef struct {
  int rank;
  int64_t shape[UF_MAX_RANK];
  int64_t stride[2][UF_MAX_RANK];
} uf_broadcast;

static inline uf_broadcast uf_broadcast_of(const uf_node *node) {
  const uf_tensor *output = node->output;
  uf_broadcast joined = {0, {0}, {{0}}};
  int64_t stride[2] = {1, 1};
  for (int axis = output->rank - 1; axis >= 0; --axis) {  // joined axes are collected innermost first
    int64_t step[2];
    for (int i = 0; i < 2; ++i) {
      const int32_t size = node->inputs[i]->shape[axis];
      step[i] = size == 1 ? 0 : stride[i];
      stride[i] *= size;
    }
    if (output->shape[axis] == 1) continue;
    const int last = joined.rank - 1;
    const int64_t span = last >= 0 ? joined.shape[last] : 0;
    if (last >= 0 && step[0] == joined.stride[0][last] * span && step[1] == joined.stride[1][last] * span) {
      joined.shape[last] *= output->shape[axis];
      continue;
    }
    joined.shape[joined.rank] = output->shape[axis];
    joined.stride[0][joined.rank] = step[0];
    joined.stride[1][joined.rank] = step[1];
    ++joined.rank;
  }
  if (joined.rank == 0) joined.shape[joined.rank++] = 1;
  return joined;
}

// Computes `count` outputs; the inputs advance by their steps, 0 or 1.
typedef void (*uf_span)(const uf_node *node, const uint8_t *a, int64_t step_a, const uint8_t *b, int64_t step_b,
                        uint8_t *out, int64_t count);

// Runs `span` over the thread's share of the output. The share is of elements, not rows, because joined tensors often
// have one row.
static inline void uf_broadcast_run(const uf_node *node, int thread, int threads, uf_span span) {
  const uf_broadcast joined = uf_broadcast_of(node);
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  for (int64_t at = share.begin; at < share.end;) {
    int64_t rest = at / joined.shape[0];
    const int64_t column = at % joined.shape[0];
    int64_t offset[2] = {column * joined.stride[0][0], column * joined.stride[1][0]};
    for (int axis = 1; axis < joined.rank; rest /= joined.shape[axis++]) {
      for (int i = 0; i < 2; ++i) offset[i] += rest % joined.shape[axis] * joined.stride[i][axis];
    }
    const int64_t row_left = joined.shape[0] - column, share_left = share.end - at;
    const int64_t count = row_left < share_left ? row_left : share_left;
    span(node, node->inputs[0]->data + offset[0], joined.stride[0][0], node->inputs[1]->data + offset[1],
         joined.stride[1][0], node->output->data + at, count);
    at += count;
  }
}

#endif  // UNFLOAT_KERNELS_BROADCAST_H_
