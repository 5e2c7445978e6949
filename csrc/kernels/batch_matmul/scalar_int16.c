// Matrix products of int16 codes.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#include "kernel.h"

#define CODE int16_t
#define SUM int64_t
#define STORAGE UF_WORDS

static int16_t emit(const uf_scale *scale, int64_t sum) {
  return uf_emit_word(sum, scale->multiplier, scale->shift, &scale->output);
}

#include "loops.h"
