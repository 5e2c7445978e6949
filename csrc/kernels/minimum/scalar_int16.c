// The less of two int16 codes.

#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#define FAMILY minimum
#define CODE int16_t
#define STORAGE UF_WORDS
#define PICK(a, b) ((a) < (b) ? (a) : (b))
#include "../pairwise.h"
