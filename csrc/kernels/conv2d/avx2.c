// The matrix product of this level.

#define UF_VARIANT avx2
#define UF_VARIANT_LEVEL UF_AVX2
#define UF_GEMM uf_gemm__avx2
#include "indirect.h"
