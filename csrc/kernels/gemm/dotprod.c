// Arm with dot products of signed bytes (FEAT_DotProd).

#include <arm_neon.h>

#define UF_GEMM uf_gemm__dotprod
#define UF_DOT4 vdotq_s32
#define UF_DOT4_LANE vdotq_laneq_s32
#include "vector128.h"
