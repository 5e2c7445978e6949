// Codes that lie a fixed distance apart, copied into a row (C99).

#ifndef UNFLOAT_KERNELS_STRIDED_H_
#define UNFLOAT_KERNELS_STRIDED_H_

#include <string.h>

#include "kernel.h"

// `count` codes of `width` bytes, the first at `x`, each `stride` codes after the one before; a stride may be negative.
static inline void uf_copy_strided(const uint8_t *x, int64_t stride, int32_t width, uint8_t *out, int32_t count) {
  if (stride == 1) {
    memcpy(out, x, (size_t)count * (size_t)width);
    return;
  }
  if (width == 2) {
    const int16_t *words = (const int16_t *)(const void *)x;
    int16_t *copies = (int16_t *)(void *)out;
    for (int32_t i = 0; i < count; ++i) copies[i] = words[i * stride];
    return;
  }
  for (int32_t i = 0; i < count; ++i) out[i] = x[i * stride];
}

#endif  // UNFLOAT_KERNELS_STRIDED_H_
