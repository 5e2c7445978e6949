// The inner loops of the linear operators on Cortex-M (C99): with Helium (MVE) 16 products an instruction, with the DSP
// extension two. Which, the compiler's target says, unless UF_PLAIN_C is defined, to bisect any doubt. The integers are
// the same: sums wrap, and what they come to is proven to fit.

#ifndef UNFLOAT_KERNELS_DSP_H_
#define UNFLOAT_KERNELS_DSP_H_

#include <stddef.h>
#include <stdint.h>

// The taps of a depthwise pixel that lie inside the image. Steps are from one tap to the next, in a row and down a
// column; x and w begin at the first tap's channel 0.
typedef struct {
  const uint8_t *x;
  const int8_t *w;
  int32_t rows, columns;
  ptrdiff_t x_step, x_row, w_step, w_row;
} uf_patch;

// Pixels side by side, at most UF_STRIP_PIXELS, and UF_STRIP_ROWS rows of weights: of each pixel and each row, `count`
// that lie side by side. Steps are from one pixel, or row, to the next.
typedef struct {
  const uint8_t *x;
  const int8_t *w;
  int32_t pixels;
  ptrdiff_t x_step, w_step, count;
} uf_strip;

enum { UF_STRIP_PIXELS = 32, UF_STRIP_ROWS = 4 };

#if defined(UF_PLAIN_C)

#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#define UF_CORTEX_M 1
#include "dsp_helium.h"

#elif defined(__ARM_FEATURE_DSP)
#define UF_CORTEX_M 1
#include "dsp_smlad.h"

#endif

#endif  // UNFLOAT_KERNELS_DSP_H_
