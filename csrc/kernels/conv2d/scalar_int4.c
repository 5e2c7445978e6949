// The convolution of scalar.c on weights of 4 bits, unpacked in its dot product.

#define UF_VARIANT scalar_int4
#define UF_VARIANT_LEVEL UF_SCALAR
#include "../nibbles.h"

static int64_t channels_of(const uf_node *node) { return node->output->shape[3]; }

static int64_t depth_of(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  return (int64_t)linear->window.kernel_h * linear->window.kernel_w * node->inputs[0]->shape[3] / linear->groups;
}

static bool supports(const uf_node *node) {
  return uf_are_nibbles(&node->params.linear, channels_of(node) * depth_of(node));
}

static size_t packed_size(const uf_node *node) { return (size_t)(channels_of(node) * uf_nibble_bytes(depth_of(node))); }

static void pack(const uf_node *node, void *packed) {
  uf_pack_nibbles(node->params.linear.weight, channels_of(node), depth_of(node), packed);
}

#define UF_DOT(node, o, x, count) uf_dot_nibbles((node)->params.linear.bias[o], x, uf_nibbles_of(node, o, count), count)
#define UF_PACKING .supports = supports, .packed_size = packed_size, .pack = pack,
#include "scalar.c"
