// The loops of scalar.c, which compilers vectorise well for this level: for weights with a zero
// point, and several outputs of an input.

#define UF_VARIANT avx2_loops
#define UF_VARIANT_LEVEL UF_AVX2
#include "scalar.c"
