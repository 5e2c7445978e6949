// The matrix product of this level.

#define UF_VARIANT i8mm
#define UF_VARIANT_LEVEL UF_I8MM
#define UF_GEMM uf_gemm__i8mm
#include "indirect.h"
