// The product of scalar.c on weights of 4 bits, unpacked in its dot product.

#define UF_VARIANT scalar_int4
#define UF_VARIANT_LEVEL UF_SCALAR
#include "../nibbles.h"

static int64_t channels_of(const uf_node *node) { return node->output->shape[node->output->rank - 1]; }

static int64_t depth_of(const uf_node *node) { return node->inputs[0]->shape[node->inputs[0]->rank - 1]; }

#include "scalar.c"
