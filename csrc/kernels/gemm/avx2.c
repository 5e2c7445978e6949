// AVX2: the matrix product with 16-bit products.

#define UF_GEMM uf_gemm__avx2
#include "vector256.h"
