// Mean over any axes but the batch: out = requantize(sum - N * Z), with 1/N inside the multiplier (eq. 25).

#include <string.h>

#include "kernel.h"

static size_t scratch_size(const uf_node *node) {
  return (size_t)uf_volume(node->output, 1, node->output->rank) * sizeof(uint32_t);
}

static uint32_t sum_bytes(const uint8_t *x, int32_t size) {
  uint32_t sum = 0;
  for (int32_t i = 0; i < size; ++i) sum += x[i];
  return sum;
}

static void add_bytes(const uint8_t *restrict x, int32_t size, uint32_t *restrict sums) {
  for (int32_t i = 0; i < size; ++i) sums[i] += x[i];
}

// Sums one sample into `sums`, indexed as the output. `stride` is the output's, 0 along a reduced axis. Sums of bytes
// may wrap: what is proven to fit is the sum less the zero points.
static void sum_axes(const uint8_t **x, const uf_tensor *input, const int64_t *stride, int axis, uint32_t *sums) {
  const int32_t size = input->shape[axis];
  if (axis < input->rank - 1) {
    for (int32_t i = 0; i < size; ++i) sum_axes(x, input, stride, axis + 1, sums + i * stride[axis]);
    return;
  }
  if (stride[axis] == 0) {
    *sums += sum_bytes(*x, size);
  } else {
    add_bytes(*x, size, sums);
  }
  *x += size;
}

static void emit(const uint32_t *restrict sums, int64_t outputs, uint32_t zero, uf_scale mean, uint8_t *restrict out) {
  for (int64_t i = 0; i < outputs; ++i) {
    out[i] = uf_emit((int32_t)(sums[i] - zero), mean.multiplier, mean.shift, &mean.output);
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_scale *mean = &node->params.scale;
  const uf_tensor *input = node->inputs[0];
  int64_t stride[UF_MAX_RANK] = {0}, outputs = 1;
  for (int axis = input->rank - 1; axis > 0; --axis) {
    if (mean->axes & (1u << axis)) continue;
    stride[axis] = outputs;
    outputs *= input->shape[axis];
  }
  const int64_t cells = uf_volume(input, 1, input->rank);
  const uint32_t zero = (uint32_t)(cells / outputs * mean->input_zero_point[0]);
  uint32_t *sums = uf_scratch(node, thread);
  const uf_range samples = uf_share(input->shape[0], 1, thread, threads);
  for (int64_t sample = samples.begin; sample < samples.end; ++sample) {
    const uint8_t *x = input->data + sample * cells;
    memset(sums, 0, (size_t)outputs * sizeof(uint32_t));
    sum_axes(&x, input, stride, 1, sums);
    emit(sums, outputs, zero, *mean, node->output->data + sample * outputs);
  }
}

UF_DEFINE_KERNEL(mean, .scratch_size = scratch_size, .run = run);
