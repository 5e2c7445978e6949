// The wide loops of a training step on a CPU: what PyTorch would do in a dozen passes over an activation, in one.
//
// Everything is float32 over [rows, channels], channels last, and has a PyTorch twin in quant/loops.py that tests hold
// equal. Functions work on the rows [begin, end) so that threads may share them.

#ifndef UNFLOAT_TRAINING_H_
#define UNFLOAT_TRAINING_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "qmath.h"
#include "rows.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct {
  int64_t begin, end;  // rows
  int64_t channels;
} training_rows;

typedef enum {
  TRAINING_REAL,     // no rounding: real numbers, clamped
  TRAINING_ROUNDED,  // to the nearest whole number, in float
  TRAINING_EXACT,    // as inference rounds, by the integers
} training_kind;

// How accumulators become steps.
typedef struct {
  training_kind kind;
  const float *factor;  // one a channel
  const float *offset;
  const int32_t *bias;  // for TRAINING_EXACT, like the next three
  const int32_t *multiplier;
  const int8_t *shift;
  qmath_rounding rounding;
  float low, high;  // bounds of the steps; whole unless TRAINING_REAL
} training_output;

typedef struct {
  float low, high;  // of accumulator * factor + offset; NaN if any value was
} training_ends;

// steps = clamp(round(accumulator * factor + offset)); inside = whether that real number lies within the bounds.
training_ends training_finish(training_rows rows, const float *accumulator, const training_output *output, float *steps,
                              uint8_t *inside);

// The sum of two operands' steps as steps, by the integers of an addition whose zero points are 0; inside = whether the
// real number a * factor[0] + b * factor[1] lies within the addition's clamp, whose bounds are steps.
training_ends training_add(training_rows rows, const float *a, const float *b, const rows_addition *addition,
                           const double factor[2], float *steps, uint8_t *inside);

// What goes into a backward pass through training_finish; pointers that may be null say what for.
typedef struct {
  const float *grad;  // of the steps
  const uint8_t *inside;
  const float *accumulator;  // for `products` and `slope`, else null
  const float *steps;        // for `scaled`, else null
  const float *factor;       // one a channel
  const float *constant;     // or null: one a channel, added to the accumulator's gradient ...
  const float *slope;        // ... with one a channel times the accumulator (the gradient of its mean and variance)
} training_incoming;

// Sums over the rows, one a channel, added to what is there.
typedef struct {
  double *passed;    // of grad * inside
  double *products;  // of grad * inside * accumulator
  double *scaled;    // of grad * steps
} training_sums_of_gradients;

// Straight through, zero outside: to_accumulator = grad * inside * factor + constant + slope * accumulator, unless
// `to_accumulator` is null; the sums, unless `sums` is null.
void training_finish_backward(training_rows rows, const training_incoming *incoming, float *to_accumulator,
                              const training_sums_of_gradients *sums);

// Adds to sum[c] and squares[c] the sums of x and x^2 over the rows.
void training_sums(training_rows rows, const float *x, double *sum, double *squares);

// Rows are channels here: steps = clamp(round((double)w * gain / scale)). Gives each row's sum of magnitudes and sum.
void training_weight(training_rows rows, const float *weight, const double *gain, const double *scale, bool per_channel,
                     int32_t low, int32_t high, float *steps, float *magnitude, float *balance);

// Backward through training_weight, straight through: to_weight = grad * slope. With `steps`, zero where the real step
// weight * slope lies outside [-limit, limit], and missed[row] is the sum of grad * (step - what is inside of it).
// to_gain[row] is the sum of what passes times the weight. A row of `grad` may lie in another order: `taps` by depth,
// where those of the others are depth by taps, as a convolution's gradient does; else `taps` is 1.
void training_weight_backward(training_rows rows, const float *grad, int64_t taps, const float *weight,
                              const float *slope, bool per_channel, const float *steps, float limit, float *to_weight,
                              double *to_gain, double *missed);

// Each row's greatest magnitude; NaN if it holds one.
void training_reach(training_rows rows, const float *weight, float *reach);

#ifdef __cplusplus
}
#endif

#endif  // UNFLOAT_TRAINING_H_
