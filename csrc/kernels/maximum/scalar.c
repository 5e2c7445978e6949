// The greater of two bytes.

#define FAMILY maximum
#define CODE uint8_t
#define STORAGE UF_BYTES
#define PICK(a, b) ((a) > (b) ? (a) : (b))
#include "../pairwise.h"
