// The matrix product of this level.

#define UF_VARIANT neon
#define UF_VARIANT_LEVEL UF_NEON
#define UF_GEMM uf_gemm__neon
#include "indirect.h"
