// Weights of 4 bits, two in a byte (C99): what the scalar kernels keep and unpack as they go. Included before scalar.c,
// which then runs on them.

#ifndef UNFLOAT_KERNELS_NIBBLES_H_
#define UNFLOAT_KERNELS_NIBBLES_H_

// What scalar.h would say otherwise.
#define UF_ADD_PRODUCTS uf_add_nibble_products
#define UF_PACKING .supports = supports, .packed_size = packed_size, .pack = pack,

#include "scalar.h"

static inline int64_t uf_nibble_bytes(int64_t count) { return (count + 1) / 2; }

// Rows of `count` weights, each in whole bytes: the first weight of a byte in its low half.
static inline void uf_pack_nibbles(const int8_t *weight, int64_t rows, int64_t count, uint8_t *packed) {
  for (int64_t row = 0; row < rows; ++row, weight += count, packed += uf_nibble_bytes(count)) {
    for (int64_t i = 0; i < count; i += 2) {
      const int high = i + 1 < count ? weight[i + 1] : 0;
      packed[i / 2] = (uint8_t)((weight[i] & 15) | (high & 15) << 4);
    }
  }
}

static inline int32_t uf_nibble(uint32_t half) { return (int32_t)(half ^ 8) - 8; }

// sum + sum of w * (x - zero_point) over the weights from `at` on; see uf_dot.
static inline int32_t uf_dot_nibbles(int32_t sum, const uint8_t *x, int32_t zero_point, const uint8_t *packed,
                                     ptrdiff_t at, ptrdiff_t count) {
  packed += at / 2;
  if (at % 2 != 0 && count > 0) {
    sum += (*x++ - zero_point) * uf_nibble((uint32_t)*packed++ >> 4);
    --count;
  }
  for (ptrdiff_t i = 0; i < count / 2; ++i) {
    sum += (x[2 * i] - zero_point) * uf_nibble(packed[i] & 15u);
    sum += (x[2 * i + 1] - zero_point) * uf_nibble((uint32_t)packed[i] >> 4);
  }
  if (count % 2 != 0) sum += (x[count - 1] - zero_point) * uf_nibble(packed[count / 2] & 15u);
  return sum;
}

// Of the weights: output channels, and inputs of each.
static int64_t channels_of(const uf_node *node);
static int64_t depth_of(const uf_node *node);

static bool supports(const uf_node *node) {
  const uf_linear *linear = &node->params.linear;
  return linear->weight_zero_point == 0 && uf_weights_within(linear->weight, channels_of(node) * depth_of(node), -8, 7);
}

static size_t packed_size(const uf_node *node) { return (size_t)(channels_of(node) * uf_nibble_bytes(depth_of(node))); }

static void pack(const uf_node *node, void *packed) {
  uf_pack_nibbles(node->params.linear.weight, channels_of(node), depth_of(node), packed);
}

// See uf_add_products.
static inline void uf_add_nibble_products(const uf_node *node, const uf_rows *rows, ptrdiff_t at, const uint8_t *x,
                                          ptrdiff_t count, int32_t *sums) {
  const ptrdiff_t bytes = (ptrdiff_t)uf_nibble_bytes(rows->depth);
  const uint8_t *packed = (const uint8_t *)node->packed + rows->first * bytes;
  for (int32_t o = 0; o < rows->outputs; ++o) {
    sums[o] = uf_dot_nibbles(sums[o], x, node->params.linear.input_zero_point, packed + o * bytes, at, count);
  }
}

#endif  // UNFLOAT_KERNELS_NIBBLES_H_
