// The greatest byte over whole axes.

#define FAMILY reduce_max
#define CODE uint8_t
#define STORAGE UF_BYTES
#define PICK(a, b) ((a) > (b) ? (a) : (b))
#define WORST 0
#include "../extreme.h"
