// The inputs of an addition on their common scale (C99).

#ifndef UNFLOAT_KERNELS_ADD_RESCALED_H_
#define UNFLOAT_KERNELS_ADD_RESCALED_H_

#include "kernel.h"

// The operator of the kernels that follow: a difference is a sum whose second operand has another sign.
#ifndef UF_FAMILY
#define UF_FAMILY add
#endif

// The rescaling of an input depends on its byte alone, so it is made once for all 256 of them.
typedef struct {
  int32_t of_byte[2][256];
} uf_rescaled;

static inline void uf_rescale_inputs(const uf_add *add, uf_rescaled *rescaled) {
  for (int i = 0; i < 2; ++i) {
    for (int32_t byte = 0; byte < 256; ++byte) {
      const int32_t lifted = qmath_shift_left(byte - add->input_zero_point[i], add->left_shift);
      const int32_t steps =
          qmath_requantize(lifted, add->input_multiplier[i], add->input_shift[i], add->output.rounding);
      rescaled->of_byte[i][byte] = i == 0 ? steps : add->sign * steps;
    }
  }
}

// The output byte of a pair of input bytes.
static inline uint8_t uf_add_bytes(const uf_add *add, const uf_rescaled *rescaled, uint8_t a, uint8_t b) {
  return uf_emit(rescaled->of_byte[0][a] + rescaled->of_byte[1][b], add->multiplier, add->shift, &add->output);
}

#endif  // UNFLOAT_KERNELS_ADD_RESCALED_H_
