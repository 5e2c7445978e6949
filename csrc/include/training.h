// The wide loops of a training step on a CPU: what PyTorch would do in a dozen passes over an activation, in one.
//
// Everything is float32 over [rows, channels], channels last, and has a PyTorch twin in quant/straight_through.py that
// tests hold equal. Functions work on the rows [begin, end) so that threads may share them.

#ifndef UNFLOAT_TRAINING_H_
#define UNFLOAT_TRAINING_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qmath.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int64_t begin, end;  // rows
  int64_t channels;
} training_rows;

// How accumulators become steps. With `bias` the integer meaning rounds; without it, float does.
typedef struct {
  const float *factor;  // one a channel
  const float *offset;
  const int32_t *bias;  // or null; then multiplier and shift too
  const int32_t *multiplier;
  const int8_t *shift;
  qmath_rounding rounding;
  int32_t low, high;  // bounds of the steps
} training_output;

typedef struct {
  float low, high;  // of accumulator * factor + offset; NaN if any value was
} training_ends;

// steps = clamp(round(accumulator * factor + offset)); inside = whether that real number lies within the bounds.
training_ends training_finish(training_rows rows, const float *accumulator, const training_output *output, float *steps,
                              uint8_t *inside);

// Straight through, zero outside: to_accumulator = grad * inside * factor. Adds to to_offset[c] the sum of
// grad * inside and, where `accumulator` is not null, to to_factor[c] that of grad * inside * accumulator.
void training_finish_backward(training_rows rows, const float *grad, const uint8_t *inside, const float *factor,
                              const float *accumulator, float *to_accumulator, double *to_offset, double *to_factor);

// Adds to sum[c] and squares[c] the sums of x and x^2 over the rows.
void training_sums(training_rows rows, const float *x, double *sum, double *squares);

// grad[r, c] += constant[c] + slope[c] * x[r, c]: the gradient of mean and variance.
void training_add_affine(training_rows rows, const float *x, const float *constant, const float *slope, float *grad);

// Rows are channels here: steps = clamp(round((double)w * gain / scale)). Gives each row's sum of magnitudes and sum.
void training_weight(training_rows rows, const float *weight, const double *gain, const double *scale, bool per_channel,
                     int32_t low, int32_t high, float *steps, float *magnitude, float *balance);

// Each row's greatest magnitude; NaN if it holds one.
void training_reach(training_rows rows, const float *weight, float *reach);

#ifdef __cplusplus
}
#endif

#endif  // UNFLOAT_TRAINING_H_
