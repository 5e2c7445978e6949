// Bytes to words for the matrix products of AVX2 (C11).

#ifndef UNFLOAT_KERNELS_GEMM_WIDEN256_H_
#define UNFLOAT_KERNELS_GEMM_WIDEN256_H_

#include <immintrin.h>
#include <string.h>

#include "../channel.h"

#define UF_WIDENS

UF_INLINE void widen_run(const uint8_t *x, int64_t depth, int16_t *words) {
  int64_t k = 0;
  for (; depth - k >= 16; k += 16) {
    const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(x + k)));
    _mm256_storeu_si256((__m256i *)(words + k), wide);
  }
  for (; depth - k >= 8; k += 8) {
    _mm_storeu_si128((__m128i *)(words + k), _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(x + k))));
  }
  for (; depth - k >= 4; k += 4) {
    int32_t four;
    memcpy(&four, x + k, sizeof four);
    _mm_storel_epi64((__m128i *)(words + k), _mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
  }
  for (; k < depth; ++k) words[k] = x[k];
}

#endif  // UNFLOAT_KERNELS_GEMM_WIDEN256_H_
