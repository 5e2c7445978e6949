// Mean and sum over any axes but the batch: out = requantize(sum - N * Z), the mean with 1/N inside the multiplier
// (eq. 25). The file that includes it has defined CODE, the type of a byte or a word, and STORAGE; the sum's files,
// UF_FAMILY.

#include <string.h>

#include "kernel.h"

#ifndef UF_FAMILY
#define UF_FAMILY mean
#endif

static size_t scratch_size(const uf_node *node) {
  return (size_t)uf_volume(node->output, 1, node->output->rank) * sizeof(uint32_t);
}

static uint32_t sum_codes(const CODE *x, int32_t size) {
  uint32_t sum = 0;
  for (int32_t i = 0; i < size; ++i) sum += (uint32_t)x[i];
  return sum;
}

static void add_codes(const CODE *restrict x, int32_t size, uint32_t *restrict sums) {
  for (int32_t i = 0; i < size; ++i) sums[i] += (uint32_t)x[i];
}

// Sums one sample into `sums`, indexed as the output. `stride` is the output's, 0 along a reduced axis. Sums of codes
// may wrap: what is proven to fit is the sum less the zero points.
static void sum_axes(const CODE **x, const uf_tensor *input, const int64_t *stride, int axis, uint32_t *sums) {
  const int32_t size = input->shape[axis];
  if (axis < input->rank - 1) {
    for (int32_t i = 0; i < size; ++i) sum_axes(x, input, stride, axis + 1, sums + i * stride[axis]);
    return;
  }
  if (stride[axis] == 0) {
    *sums += sum_codes(*x, size);
  } else {
    add_codes(*x, size, sums);
  }
  *x += size;
}

static void emit(const uint32_t *restrict sums, int64_t outputs, uint32_t zero, uf_scale mean, CODE *restrict out) {
  for (int64_t i = 0; i < outputs; ++i) {
    const int32_t sum = (int32_t)(sums[i] - zero);
    const int32_t steps = qmath_requantize(sum, mean.multiplier, mean.shift, mean.output.rounding);
    out[i] = (CODE)qmath_clamp_sum(steps, mean.output.zero_point, mean.output.clamp_min, mean.output.clamp_max);
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
    const CODE *x = (const CODE *)(const void *)input->data + sample * cells;
    memset(sums, 0, (size_t)outputs * sizeof(uint32_t));
    sum_axes(&x, input, stride, 1, sums);
    emit(sums, outputs, zero, *mean, (CODE *)(void *)node->output->data + sample * outputs);
  }
}

UF_DEFINE_KERNEL(UF_FAMILY, .storage = STORAGE, .scratch_size = scratch_size, .run = run);
