// The loops of scalar_int16.c, which compilers vectorise well for this level.

#define UF_VARIANT avx512vnni_int16
#define UF_VARIANT_LEVEL UF_AVX512VNNI
#include "scalar_int16.c"
