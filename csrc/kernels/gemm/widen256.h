// Bytes to words for the matrix products of AVX2 (C11).

#ifndef UNFLOAT_KERNELS_GEMM_WIDEN256_H_
#define UNFLOAT_KERNELS_GEMM_WIDEN256_H_

#include <immintrin.h>
#include <string.h>

#include "../channel.h"

#define UF_WIDENS

UF_INLINE void widen16(const uint8_t *x, int16_t *words) {
  const __m256i wide = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)x));
  _mm256_storeu_si256((__m256i *)(void *)words, wide);
}

UF_INLINE void widen_run(const uint8_t *x, int64_t depth, int16_t *words) {
  int64_t k = 0;
  for (; depth - k >= 16; k += 16) widen16(x + k, words + k);
  if (k == depth) return;
  if (depth > 16) {  // the last sixteen, some of them once more
    widen16(x + depth - 16, words + depth - 16);
    return;
  }
  for (; depth - k >= 4; k += 4) {
    int32_t four;
    memcpy(&four, x + k, sizeof four);
    _mm_storel_epi64((__m128i *)(void *)(words + k), _mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
  }
  for (; k < depth; ++k) words[k] = x[k];
}

#endif  // UNFLOAT_KERNELS_GEMM_WIDEN256_H_
