// Elementwise operators of two inputs, with NumPy's broadcasting (C99).

#ifndef UNFLOAT_KERNELS_BROADCAST_H_
#define UNFLOAT_KERNELS_BROADCAST_H_

#include <string.h>

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

// A code that repeats is spread out, so that spans see arrays only; on the stack, of which a microcontroller has
// little.
#ifdef UF_ENGINE
enum { UF_REPEATED = 1024, UF_REPEATED_SLACK = UF_SLACK };
#else
enum { UF_REPEATED = 32, UF_REPEATED_SLACK = 0 };
#endif

static inline void uf_repeat(const uint8_t *code, int32_t width, int64_t count, uint8_t *out) {
  if (width == 1) {
    memset(out, *code, (size_t)count);
    return;
  }
  for (int64_t i = 0; i < count; ++i) memcpy(out + i * width, code, (size_t)width);
}

// Where the inputs of the output at `index` begin.
static inline void uf_broadcast_offsets(const uf_broadcast *joined, int64_t index, int64_t offset[2]) {
  offset[0] = offset[1] = 0;
  for (int axis = 0; axis < joined->rank; index /= joined->shape[axis++]) {
    const int64_t at = index % joined->shape[axis];
    for (int i = 0; i < 2; ++i) offset[i] += at * joined->stride[i][axis];
  }
}

// Runs `span` over the thread's share of the output. The share is of elements, not rows, because joined tensors often
// have one row.
static inline void uf_broadcast_run(const uf_node *node, int thread, int threads, uf_span span) {
  const uf_broadcast joined = uf_broadcast_of(node);
  const uf_range share = uf_share(uf_size(node->output), UF_ALIGNMENT, thread, threads);
  const bool repeats = joined.stride[0][0] == 0 || joined.stride[1][0] == 0;
  const int32_t width = node->output->width;
  int16_t repeated[2][UF_REPEATED + UF_REPEATED_SLACK / sizeof(int16_t)];
  int64_t count = 0;
  for (int64_t at = share.begin; at < share.end; at += count) {
    const int64_t row_left = joined.shape[0] - at % joined.shape[0], share_left = share.end - at;
    count = row_left < share_left ? row_left : share_left;
    if (repeats && count > UF_REPEATED) count = UF_REPEATED;
    int64_t offset[2];
    const uint8_t *operands[2];
    uf_broadcast_offsets(&joined, at, offset);
    for (int i = 0; i < 2; ++i) {
      operands[i] = node->inputs[i]->data + offset[i] * width;
      if (joined.stride[i][0] != 0) continue;
      uint8_t *spread = (uint8_t *)repeated[i];
      uf_repeat(operands[i], width, count, spread);
      operands[i] = spread;
    }
    span(node, operands[0], operands[1], node->output->data + at * width, count);
  }
}

#endif  // UNFLOAT_KERNELS_BROADCAST_H_
