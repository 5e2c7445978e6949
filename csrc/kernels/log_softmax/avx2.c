// The loops of scalar.c, which compilers vectorise well for this level.

#define UF_VARIANT avx2
#define UF_VARIANT_LEVEL UF_AVX2
#include "scalar.c"
