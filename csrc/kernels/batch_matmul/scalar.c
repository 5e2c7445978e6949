// Matrix products of bytes.

#include "kernel.h"

#define CODE uint8_t
#define SUM int32_t
#define STORAGE UF_BYTES

static uint8_t emit(const uf_scale *scale, int32_t sum) {
  return uf_emit(sum, scale->multiplier, scale->shift, &scale->output);
}

#include "loops.h"
