// Mean of int16 codes.

#ifndef UF_VARIANT
#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#endif

#define CODE int16_t
#define STORAGE UF_WORDS
#include "loops.h"
