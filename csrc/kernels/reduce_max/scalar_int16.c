// The greatest int16 code over whole axes.

#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#define FAMILY reduce_max
#define CODE int16_t
#define STORAGE UF_WORDS
#define PICK(a, b) ((a) > (b) ? (a) : (b))
#define WORST INT16_MIN
#include "../extreme.h"
