// Mean of bytes.

#define CODE uint8_t
#define STORAGE UF_BYTES
#include "loops.h"
