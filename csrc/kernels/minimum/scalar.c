// The less of two bytes.

#define FAMILY minimum
#define CODE uint8_t
#define STORAGE UF_BYTES
#define PICK(a, b) ((a) < (b) ? (a) : (b))
#include "../pairwise.h"
