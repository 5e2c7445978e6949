// Arm with dot products of unsigned by signed bytes (FEAT_I8MM).

#include <arm_neon.h>

#define UF_GEMM uf_gemm__i8mm
#define UF_MIXED_SIGNS
#define UF_DOT4(acc, w, x) vusdotq_s32(acc, x, w)
#define UF_DOT4_LANE vsudotq_laneq_s32
#include "vector128.h"
