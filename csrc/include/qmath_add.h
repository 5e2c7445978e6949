// An addition, or a difference, as a plane over its two bytes: output = clamp((a * factor[0] + b * factor[1] +
// constant) >> shift) (C99).
//
// An addition's output depends on two bytes, and is very nearly a plane over them: its roundings disturb the plane by
// some millionths of a step. So a plane is sought that gives the exact output for each of the 65536 pairs. It nearly
// always exists; where it does not (ties rounded away from zero on both sides of it), the roundings have to be made.

#ifndef UNFLOAT_QMATH_ADD_H_
#define UNFLOAT_QMATH_ADD_H_

#include <stdbool.h>
#include <stdint.h>

enum { QMATH_PAIRS = 256 * 256 };

// What a plane has to reproduce. A step of byte i moves the output by product[i] * 2^-fraction_bits[i].
typedef struct {
  int64_t product[2];  // of the input's multiplier and the output's
  int fraction_bits[2];
  int32_t clamp_min, clamp_max;
  const uint8_t *outputs;  // that of the bytes a and b is at 256 a + b
} qmath_addition;

typedef struct {
  int64_t factor[2], constant;
  int shift;
} qmath_plane;

// The factors that belong to the plane's shift, to nearest. False where they do not fit.
static inline bool qmath_set_plane_factors(const qmath_addition *addition, qmath_plane *plane) {
  for (int i = 0; i < 2; ++i) {
    const int right = addition->fraction_bits[i] - plane->shift;
    if (right < 1 || right > 62) return false;
    plane->factor[i] = (addition->product[i] + ((int64_t)1 << (right - 1))) >> right;
    const int64_t most = INT32_MAX - (1 << 16);  // the high half of more would be 2^15
    if (plane->factor[i] > most || plane->factor[i] < -most) return false;
  }
  return true;
}

// Sets the least constant that gives every pair its output, if there is one. A byte at one of the clamp's bounds binds
// the plane from one side only.
static inline bool qmath_set_plane_constant(const qmath_addition *addition, qmath_plane *plane) {
  const int32_t clamp_min = addition->clamp_min, clamp_max = addition->clamp_max;
  const int64_t step = (int64_t)1 << plane->shift;
  int64_t least = INT64_MIN, most = INT64_MAX;
  int64_t above[256], below[256];  // what a pair asks for at least and at most, a row at a time: compilers make vectors
  for (int32_t a = 0; a < 256; ++a) {
    const uint8_t *outputs = addition->outputs + 256 * a;
    for (int32_t b = 0; b < 256; ++b) {
      const int64_t bottom = outputs[b] * step - a * plane->factor[0] - b * plane->factor[1];
      above[b] = outputs[b] > clamp_min ? bottom : INT64_MIN;
      below[b] = outputs[b] < clamp_max ? bottom + step - 1 : INT64_MAX;
    }
    for (int32_t b = 0; b < 256; ++b) {
      least = above[b] > least ? above[b] : least;
      most = below[b] < most ? below[b] : most;
    }
  }
  plane->constant = least == INT64_MIN ? most : least;
  return least <= most;
}

// The plane of the greatest factors that fit, if it meets the output of every pair. Its shift exceeds 16.
static inline bool qmath_find_plane(const qmath_addition *addition, qmath_plane *plane) {
  if (addition->clamp_min == addition->clamp_max) return false;  // nothing would bind the constant
  plane->shift = 38;
  while (!qmath_set_plane_factors(addition, plane)) {
    if (--plane->shift <= 16) return false;
  }
  return qmath_set_plane_constant(addition, plane);
}

// --- A plane in halves of 16 bits, for instructions that add two products of such numbers. ---

// The sum of the low halves' products gives up its low 16 bits, which reach no further, to the sum of the high ones.
typedef struct {
  int32_t low_factors, high_factors;    // two signed numbers each, a's in the lower half
  int32_t low_constant, high_constant;  // low_constant in [0, 2^16)
  int32_t shift;                        // of the high sum
} qmath_half_plane;

// x = high * 2^16 + low, both signed.
static inline int32_t qmath_low_half(int64_t x) { return (int16_t)x; }
static inline int32_t qmath_high_half(int64_t x) { return (int32_t)((x - qmath_low_half(x)) >> 16); }

static inline int32_t qmath_join_halves(int32_t low, int32_t high) {
  return (int32_t)(((uint32_t)low & 0xffff) | (uint32_t)high << 16);
}

static inline qmath_half_plane qmath_halve_plane(const qmath_plane *plane) {
  const int64_t a = plane->factor[0], b = plane->factor[1];
  const qmath_half_plane halves = {
      qmath_join_halves(qmath_low_half(a), qmath_low_half(b)),
      qmath_join_halves(qmath_high_half(a), qmath_high_half(b)),
      (int32_t)(plane->constant & 0xffff),
      (int32_t)(plane->constant >> 16),
      plane->shift - 16,
  };
  return halves;
}

#endif  // UNFLOAT_QMATH_ADD_H_
