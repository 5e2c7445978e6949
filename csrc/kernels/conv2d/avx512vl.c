// The matrix product of this level.

#define UF_VARIANT avx512vl
#define UF_VARIANT_LEVEL UF_AVX512VL
#define UF_GEMM uf_gemm__avx512vl
#include "indirect.h"
