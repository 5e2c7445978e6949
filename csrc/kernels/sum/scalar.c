// The loops of the mean: 1/N is inside its multiplier.

#define UF_FAMILY sum
#include "../mean/scalar.c"
