// Bilinear resizing of int16 codes.

#define UF_VARIANT scalar_int16
#define UF_VARIANT_LEVEL UF_SCALAR
#define CODE int16_t
#define SUM int64_t
#define STORAGE UF_WORDS
#include "../resize.h"
