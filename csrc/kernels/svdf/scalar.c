// SVDF: a feature of every run for each filter, the newest of them remembered, then weighed along time (eq. 49 and 50).
// A state holds a row for each filter, oldest first.

#include "../scalar.h"

// What the filter sees now joins its row; then the row's sum along time goes on from `total`, as in the proof that it
// does not overflow.
static int32_t weighed(const uf_svdf *svdf, int32_t filter, const uint8_t *x, int32_t inputs, int16_t *row,
                       int32_t total) {
  const int32_t memory = svdf->memory;
  const int32_t sum =
      uf_dot(0, x, svdf->input_zero_point, svdf->weight + (ptrdiff_t)filter * inputs, 0, (ptrdiff_t)inputs);
  const int32_t feature = qmath_requantize(sum, svdf->feature_multiplier, svdf->feature_shift, svdf->output.rounding);
  memmove(row, row + 1, (size_t)(memory - 1) * sizeof(int16_t));
  row[memory - 1] = (int16_t)qmath_clamp(feature, svdf->state_min, svdf->state_max);
  const int16_t *time = svdf->time + (ptrdiff_t)filter * memory;
  for (int32_t i = 0; i < memory; ++i) total += row[i] * time[i];
  return total;
}

// A thread's share is of outputs, and so of filters.
static void run(const uf_node *node, int thread, int threads) {
  const uf_svdf *svdf = &node->params.svdf;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int32_t inputs = input->shape[1], outputs = output->shape[1], rank = svdf->rank;
  const ptrdiff_t filters = (ptrdiff_t)outputs * rank;
  const uf_range share = uf_share(outputs, 1, thread, threads);
  for (ptrdiff_t sample = 0; sample < output->shape[0]; ++sample) {
    const uint8_t *x = input->data + sample * inputs;
    for (int32_t o = (int32_t)share.begin; o < share.end; ++o) {
      int32_t total = svdf->bias[o];
      for (int32_t filter = o * rank; filter < (o + 1) * rank; ++filter) {
        total = weighed(svdf, filter, x, inputs, node->state + (sample * filters + filter) * svdf->memory, total);
      }
      output->data[sample * outputs + o] = uf_emit(total, svdf->multiplier, svdf->shift, &svdf->output);
    }
  }
}

static size_t state_size(const uf_node *node) {
  return (size_t)node->output->shape[1] * (size_t)node->params.svdf.rank * (size_t)node->params.svdf.memory;
}

UF_DEFINE_KERNEL(svdf, .state_size = state_size, .run = run);
