// AVX-VNNI: the matrix product with 256-bit vectors and an instruction for four products of bytes.

#define UF_GEMM uf_gemm__avxvnni
#define UF_DOT4 _mm256_dpbusd_avx_epi32
#include "vector256.h"
