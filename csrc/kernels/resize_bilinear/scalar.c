// Bilinear resizing of bytes: 2^8 * 2^20 fits 32 bits.

#define CODE uint8_t
#define SUM int32_t
#define STORAGE UF_BYTES
#include "../resize.h"
