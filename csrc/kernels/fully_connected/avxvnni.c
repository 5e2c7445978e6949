// The matrix product of this level.

#define UF_VARIANT avxvnni
#define UF_VARIANT_LEVEL UF_AVXVNNI
#define UF_GEMM uf_gemm__avxvnni
#include "indirect.h"
