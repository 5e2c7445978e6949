// The matrix product of this level with half of the multiplications.

#define UF_VARIANT avx2_paired
#define UF_VARIANT_LEVEL UF_AVX2
#define UF_GEMM uf_gemm__avx2_paired
#include "indirect.h"
