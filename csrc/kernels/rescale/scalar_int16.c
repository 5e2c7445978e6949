// Rescaling from or to int16 codes; bytes on the other side are of their own zero point.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "../words.h"

static int32_t load(const uf_tensor *tensor, int64_t at) {
  return tensor->width == 2 ? uf_words(tensor->data)[at] : tensor->data[at];
}

static void store(const uf_tensor *tensor, int64_t at, int32_t code) {
  if (tensor->width == 2) {
    uf_words_of(tensor)[at] = (int16_t)code;
  } else {
    tensor->data[at] = (uint8_t)code;
  }
}

static void run(const uf_node *node, int thread, int threads) {
  const uf_scale scale = node->params.scale;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const uf_range share = uf_share(uf_size(output), UF_ALIGNMENT, thread, threads);
  for (int64_t i = share.begin; i < share.end; ++i) {
    const int32_t difference = load(input, i) - scale.input_zero_point[0];
    const int32_t steps = qmath_requantize(difference, scale.multiplier, scale.shift, scale.output.rounding);
    const uf_output *out = &scale.output;
    store(output, i, qmath_clamp_sum(steps, out->zero_point, out->clamp_min, out->clamp_max));
  }
}

// Bytes alone have a table.
static bool supports(const uf_node *node) { return node->inputs[0]->width == 2 || node->output->width == 2; }

UF_DEFINE_KERNEL(rescale, .storage = UF_ANY_STORAGE, .supports = supports, .run = run);
