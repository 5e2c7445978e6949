// The kernel of the addition: the sign of the second operand is a parameter.

#define UF_FAMILY sub
#include "../add/avx512vnni_int16.c"
