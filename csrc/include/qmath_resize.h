// Bilinear resizing in integers (C99): coordinates in 1/1024ths of a cell, as TFLite's reference kernel has them
// (docs/numerics.md, equations 39 to 41). Sizes are at most 2^16, so that every coordinate fits int32.

#ifndef UNFLOAT_QMATH_RESIZE_H_
#define UNFLOAT_QMATH_RESIZE_H_

#include <stdbool.h>
#include <stdint.h>

enum { QMATH_RESIZE_BITS = 10, QMATH_RESIZE_ONE = 1 << QMATH_RESIZE_BITS };

// How an axis of `source` cells is read as one of `target`: equation 39.
typedef struct {
  int32_t source;
  int32_t scale;  // source cells for each target cell, in 1/1024ths
  int32_t start;  // the coordinate of target cell 0
} qmath_axis;

static inline qmath_axis qmath_resize_axis(int32_t source, int32_t target, bool align_corners,
                                           bool half_pixel_centers) {
  const bool aligned = align_corners && target > 1;
  const int32_t cells = aligned ? source - 1 : source, steps = aligned ? target - 1 : target;
  const int32_t scale = (QMATH_RESIZE_ONE * cells + steps / 2) / steps;
  const qmath_axis axis = {source, scale, half_pixel_centers ? scale / 2 - QMATH_RESIZE_ONE / 2 : 0};
  return axis;
}

// The two source cells that a target cell lies between, and the share of the second in 1/1024ths: equation 40.
typedef struct {
  int32_t first, second, share;
} qmath_between;

static inline qmath_between qmath_resize_at(const qmath_axis *axis, int32_t index) {
  const int32_t at = index * axis->scale + axis->start, last = axis->source - 1;
  const int32_t first = at < 0 ? 0 : at >> QMATH_RESIZE_BITS;
  if (at <= 0 || first >= last) {
    const int32_t edge = at <= 0 ? 0 : last;
    const qmath_between cell = {edge, edge, 0};
    return cell;
  }
  const qmath_between cells = {first, first + 1, at - first * QMATH_RESIZE_ONE};
  return cells;
}

// A sum of codes whose shares add up to 2^20, to nearest, ties away from code 0: equation 41.
static inline int32_t qmath_resize_round(int64_t sum) {
  const int64_t half = INT64_C(1) << (2 * QMATH_RESIZE_BITS - 1);
  return (int32_t)((sum < 0 ? sum - half : sum + half) / (2 * half));
}

#endif  // UNFLOAT_QMATH_RESIZE_H_
