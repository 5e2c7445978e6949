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
  const uf_output output = add->output;
  const int32_t multiplier = add->multiplier, shift = add->shift;
  for (int32_t a = 0; a < 256; ++a) {  // a row at a time: compilers make vectors
    const int32_t first = rescaled.of_byte[0][a];
    for (int32_t b = 0; b < 256; ++b) {
      outputs[256 * a + b] = uf_emit(first + rescaled.of_byte[1][b], multiplier, shift, &output);
    }
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

_Static_assert(sizeof(qmath_half_plane) <= UF_FOUND, "a plane is handed from supports() to pack()");

static bool supports(const uf_node *node) {
  qmath_plane plane;
  if (!find_plane(&node->params.add, &plane)) return false;
  *(qmath_half_plane *)node->found = qmath_halve_plane(&plane);
  return true;
}

static size_t packed_size(const uf_node *node) {
  (void)node;
  return sizeof(qmath_half_plane);
}

static void pack(const uf_node *node, void *packed) {
  *(qmath_half_plane *)packed = *(const qmath_half_plane *)node->found;
}

#endif  // UNFLOAT_KERNELS_ADD_PLANE_H_
