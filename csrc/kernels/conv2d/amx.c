// The matrix product of this level.

#define UF_VARIANT amx
#define UF_VARIANT_LEVEL UF_AMX
#define UF_GEMM uf_gemm__amx
#define UF_GEMM_TILE 64
#include "indirect.h"
