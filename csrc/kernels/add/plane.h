// Finding the plane over two bytes that gives an addition's exact outputs (see qmath_add.h): what the vector levels do
// at load. Where there is no plane, the next kernel runs.

#ifndef UNFLOAT_KERNELS_ADD_PLANE_H_
#define UNFLOAT_KERNELS_ADD_PLANE_H_

#include "../broadcast.h"
#include "qmath_add.h"
#include "rescaled.h"

static void compute_outputs(const uf_add *add, uint8_t *outputs) {
  uf_rescaled rescaled;
  uf_rescale_inputs(add, &rescaled);
  for (int32_t pair = 0; pair < QMATH_PAIRS; ++pair) {
    outputs[pair] = uf_add_bytes(add, &rescaled, (uint8_t)(pair >> 8), (uint8_t)pair);
  }
}

static bool find_plane(const uf_add *add, qmath_plane *plane) {
  uint8_t outputs[QMATH_PAIRS];
  qmath_addition addition = {
      .clamp_min = add->output.clamp_min, .clamp_max = add->output.clamp_max, .outputs = outputs};
  for (int i = 0; i < 2; ++i) {
    addition.product[i] = (int64_t)add->input_multiplier[i] * add->multiplier * (i == 0 ? 1 : add->sign);
    addition.fraction_bits[i] = 62 - add->left_shift - add->input_shift[i] - add->shift;
  }
  compute_outputs(add, outputs);
  return qmath_find_plane(&addition, plane);
}

static bool supports(const uf_node *node) {
  qmath_plane plane;
  return find_plane(&node->params.add, &plane);
}

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(qmath_half_plane);
}

static void pack(const uf_node *node, void *packed) {
  qmath_plane plane;
  find_plane(&node->params.add, &plane);
  *(qmath_half_plane *)packed = qmath_halve_plane(&plane);
}

#endif  // UNFLOAT_KERNELS_ADD_PLANE_H_
