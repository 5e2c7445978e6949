// The matrix product of this level.

#define UF_VARIANT avx512vnni
#define UF_VARIANT_LEVEL UF_AVX512VNNI
#define UF_GEMM uf_gemm__avx512vnni
#include "indirect.h"
