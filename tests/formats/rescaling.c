// Compares the rescalings and clamps of the target's extension with qmath.h's, over edges of all arguments and a random
// walk between them; prints how many results differ, and of how many.

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "qmath.h"

#if defined(__ARM_FEATURE_MVE)
#include "qmath_mve.h"
static int32x4_t lanes(int32_t accumulator, int32_t multiplier, int shift) {
  return qmath_mve_requantize_double(vdupq_n_s32(accumulator), vdupq_n_s32(multiplier), vdupq_n_s32(shift));
}
static int32_t rescaled(int32_t accumulator, int32_t multiplier, int shift) {
  return vgetq_lane_s32(lanes(accumulator, multiplier, shift), 3);
}
static int32_t byte_of(int32_t accumulator, int32_t multiplier, int shift, int32_t code) {
  return vgetq_lane_s32(qmath_mve_clamp_sum(lanes(accumulator, multiplier, shift), code, 0, 255), 0);
}
static void clamp_four(uint8_t *bytes, int32_t low, int32_t high) {
  const int32x4_t wide = vreinterpretq_s32_u32(vldrbq_u32(bytes));
  vstrbq_u32(bytes, vreinterpretq_u32_s32(qmath_mve_clamp_sum(wide, 0, low, high)));
}
#else
#include "qmath_dsp.h"
static int32_t rescaled(int32_t accumulator, int32_t multiplier, int shift) {
  return qmath_dsp_requantize_double(accumulator, multiplier, shift);
}
static int32_t byte_of(int32_t accumulator, int32_t multiplier, int shift, int32_t code) {
  if (qmath_dsp_is_plain(multiplier, shift)) return qmath_dsp_plain_byte(accumulator, multiplier, shift, code);
  return qmath_clamp_sum(rescaled(accumulator, multiplier, shift), code, 0, 255);
}
static void clamp_four(uint8_t *bytes, int32_t low, int32_t high) {
  uint32_t word;
  memcpy(&word, bytes, sizeof word);
  word = qmath_dsp_clamp_bytes(word, low, high);
  memcpy(bytes, &word, sizeof word);
}
#endif

enum { EDGES = 20, MULTIPLIERS = 9, RANDOM = 200000 };

static long different, tried;

static void compare(int32_t accumulator, int32_t multiplier, int shift) {
  const int32_t steps = qmath_requantize_double(accumulator, multiplier, shift), code = (int32_t)(tried % 256);
  ++tried;
  different += rescaled(accumulator, multiplier, shift) != steps ||
               byte_of(accumulator, multiplier, shift, code) != qmath_clamp_sum(steps, code, 0, 255);
}

// All bytes.
static void compare_clamps(int32_t low, int32_t high) {
  for (int32_t first = 0; first < 256; first += 4) {
    uint8_t bytes[4];
    for (int32_t i = 0; i < 4; ++i) bytes[i] = (uint8_t)(first + i);
    clamp_four(bytes, low, high);
    for (int32_t i = 0; i < 4; ++i) different += bytes[i] != qmath_clamp(first + i, low, high);
    tried += 4;
  }
}

static uint32_t random_bits(void) {
  static uint32_t state = 2463534242u;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

int main(void) {
  for (int32_t low = 0; low < 256; low += 15) {
    for (int32_t high = low; high < 256; high += 15) compare_clamps(low, high);
  }
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
