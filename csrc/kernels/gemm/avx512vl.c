// The source of AVX-VNNI in AVX-512's encoding: for CPUs that have AVX-512 and where 512-bit vectors are not wanted.

#define UF_GEMM uf_gemm__avx512vl
#define UF_DOT4 _mm256_dpbusd_epi32
#include "vector256.h"
