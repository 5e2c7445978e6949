// Arm without dot products: the matrix product with two products in 16 bits.

#define UF_GEMM uf_gemm__neon
#include "vector128.h"
