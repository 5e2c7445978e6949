// The least byte over whole axes.

#define FAMILY reduce_min
#define CODE uint8_t
#define STORAGE UF_BYTES
#define PICK(a, b) ((a) < (b) ? (a) : (b))
#define WORST UINT8_MAX
#include "../extreme.h"
