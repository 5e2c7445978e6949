// The loops of scalar.c, which compilers vectorise well for this level.

#define UF_VARIANT avx512vnni
#define UF_VARIANT_LEVEL UF_AVX512VNNI
#include "scalar.c"
