// The convolution of scalar.c on weights of 4 bits, unpacked in its dot product.

#define UF_VARIANT scalar_int4
#define UF_VARIANT_LEVEL UF_SCALAR
#include "../nibbles.h"

static int64_t channels_of(const uf_node *node) { return node->output->shape[3]; }

static int64_t depth_of(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  return (int64_t)linear->window.kernel_h * linear->window.kernel_w * node->inputs[0]->shape[3] / linear->groups;
}

#include "scalar.c"
