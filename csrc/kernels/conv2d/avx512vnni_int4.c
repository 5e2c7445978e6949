// The matrix product of this level, on weights that fit 4 bits.

#define UF_VARIANT avx512vnni_int4
#define UF_VARIANT_LEVEL UF_AVX512VNNI
#define UF_GEMM uf_gemm__avx512vnni_int4
#include "indirect.h"
