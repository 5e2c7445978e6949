// The CPU that is emulated. CPUs came with VNNI but neither the 52-bit products of IFMA nor the permutations of VBMI: a
// variable of the environment makes it one of them, on which those instructions trap.

#ifndef UNFLOAT_TESTS_EMULATED_CPU_H_
#define UNFLOAT_TESTS_EMULATED_CPU_H_

#include <stdlib.h>

static inline int emulated_has_ifma(void) {
  static __thread int known, has;
  if (!known) has = getenv("UNFLOAT_EMULATED_WITHOUT_IFMA") == NULL;
  known = 1;
  return has;
}

#endif  // UNFLOAT_TESTS_EMULATED_CPU_H_
