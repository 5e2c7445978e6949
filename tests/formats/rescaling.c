// Compares the rescalings of the target's extension with qmath.h's, over edges of all arguments and a random walk
// between them; prints how many results differ, and of how many.

#include <stdint.h>
#include <stdio.h>

#include "qmath.h"

#if defined(__ARM_FEATURE_MVE)
#include "qmath_mve.h"
static int32_t rescaled(int32_t accumulator, int32_t multiplier, int shift) {
  const int32x4_t lanes =
      qmath_mve_requantize_double(vdupq_n_s32(accumulator), vdupq_n_s32(multiplier), vdupq_n_s32(shift));
  return vgetq_lane_s32(lanes, 3);
}
#else
#include "qmath_dsp.h"
static int32_t rescaled(int32_t accumulator, int32_t multiplier, int shift) {
  return qmath_dsp_requantize_double(accumulator, multiplier, shift);
}
#endif

enum { EDGES = 20, MULTIPLIERS = 9, RANDOM = 200000 };

static long different, tried;

static void compare(int32_t accumulator, int32_t multiplier, int shift) {
  ++tried;
  different += rescaled(accumulator, multiplier, shift) != qmath_requantize_double(accumulator, multiplier, shift);
}

static uint32_t random_bits(void) {
  static uint32_t state = 2463534242u;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

int main(void) {
  static const int32_t edges[EDGES] = {
      INT32_MIN, INT32_MIN + 1, -1073741825, -1073741824, -1073741823, -65537,        -129,     -3, -2, -1, 0, 1, 2,
      3,         128,           65536,       1073741823,  1073741824,  INT32_MAX - 1, INT32_MAX};
  static const int32_t multipliers[MULTIPLIERS] = {0,          1,          1073741823, 1073741824, 1073741825,
                                                   1610612736, 1431655765, 2147483646, INT32_MAX};
  for (int shift = -31; shift <= 30; ++shift) {
    for (int i = 0; i < EDGES; ++i) {
      for (int j = 0; j < MULTIPLIERS; ++j) compare(edges[i], multipliers[j], shift);
    }
    // Around half of a last step, where ties are.
    for (int step = -3; step <= 3; ++step) {
      for (int near = -2; near <= 2; ++near) {
        const uint32_t half = 1u << (shift < 0 ? -shift : 0);
        compare((int32_t)((uint32_t)step * half + (uint32_t)near), 1073741824, shift);
      }
    }
  }
  for (long i = 0; i < RANDOM; ++i) {
    const int32_t accumulator = (int32_t)random_bits() >> (random_bits() % 32);
    const int32_t multiplier = (int32_t)((1u << 30) | (random_bits() >> 2));
    compare(accumulator, multiplier, (int)(random_bits() % 62) - 31);
  }
  printf("%ld of %ld\n", different, tried);
  return different == 0 ? 0 : 1;
}
