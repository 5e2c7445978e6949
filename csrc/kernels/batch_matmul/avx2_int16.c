// The loops of scalar_int16.c, which compilers vectorise well for this level.

#define UF_VARIANT avx2_int16
#define UF_VARIANT_LEVEL UF_AVX2
#include "scalar_int16.c"
