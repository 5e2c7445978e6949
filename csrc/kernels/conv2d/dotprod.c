// The matrix product of this level.

#define UF_VARIANT dotprod
#define UF_VARIANT_LEVEL UF_DOTPROD
#define UF_GEMM uf_gemm__dotprod
#include "indirect.h"
