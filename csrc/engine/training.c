#include "training.h"

#include "wide.h"

enum { PIECE = 512, FOLD = 32 };  // channels at a time; rows after which float sums go to double ones

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// An accumulator as an integer: exact below 2^30, defined for every float.
static inline int32_t whole(float x) {
  const float raised = x > -1073741824.0f ? x : -1073741824.0f;
  return (int32_t)(raised < 1073741824.0f ? raised : 1073741824.0f);
}

static inline float bounded(float x, float low, float high) {
  const float raised = x > low ? x : low;
  return raised < high ? raised : high;
}

typedef struct {
  float low[PIECE], high[PIECE];
  int32_t nans[PIECE];
} piece_ends;

WIDE static void real_row(const float *restrict a, int64_t size, const float *restrict factor,
                          const float *restrict offset, float low, float high, float *restrict value,
                          uint8_t *restrict inside, piece_ends *restrict ends) {
  for (int64_t c = 0; c < size; ++c) {
    const float v = a[c] * factor[c] + offset[c];
    value[c] = v;
    inside[c] = (uint8_t)((v >= low) & (v <= high));
    ends->low[c] = v < ends->low[c] ? v : ends->low[c];
    ends->high[c] = v > ends->high[c] ? v : ends->high[c];
    ends->nans[c] |= v != v;
  }
}

WIDE static void rounded_row(const float *restrict value, int64_t size, float low, float high, float *restrict steps) {
  for (int64_t c = 0; c < size; ++c) steps[c] = qmath_round_half_away(bounded(value[c], low, high));
}

WIDE static void exact_row(const float *restrict a, int64_t size, const int32_t *restrict bias,
                           const int32_t *restrict multiplier, const int8_t *restrict shift, qmath_rounding rounding,
                           int32_t low, int32_t high, float *restrict steps) {
  if (rounding == QMATH_SINGLE) {
    for (int64_t c = 0; c < size; ++c) {
      const int32_t q = qmath_requantize_single(whole(a[c]) + bias[c], multiplier[c], shift[c]);
      steps[c] = (float)qmath_clamp(q, low, high);
    }
  } else {
    for (int64_t c = 0; c < size; ++c) {
      const int32_t q = qmath_requantize_double(whole(a[c]) + bias[c], multiplier[c], shift[c]);
      steps[c] = (float)qmath_clamp(q, low, high);
    }
  }
}

static void merge(const piece_ends *piece, int64_t size, training_ends *ends, bool *nans) {
  for (int64_t c = 0; c < size; ++c) {
    if (piece->low[c] < ends->low) ends->low = piece->low[c];
    if (piece->high[c] > ends->high) ends->high = piece->high[c];
    *nans |= piece->nans[c] != 0;
  }
}

training_ends training_finish(training_rows rows, const float *accumulator, const training_output *output, float *steps,
                              uint8_t *inside) {
  const float infinity = __builtin_inff();
  const float low = (float)output->low, high = (float)output->high;
  training_ends ends = {infinity, -infinity};
  bool nans = false;
  for (int64_t first = 0; first < rows.channels; first += PIECE) {
    const int64_t size = least(PIECE, rows.channels - first);
    float value[PIECE];
    piece_ends piece;
    for (int64_t c = 0; c < size; ++c) {
      piece.low[c] = infinity;
      piece.high[c] = -infinity;
      piece.nans[c] = 0;
    }
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t at = row * rows.channels + first;
      real_row(accumulator + at, size, output->factor + first, output->offset + first, low, high, value, inside + at,
               &piece);
      if (output->bias == NULL) {
        rounded_row(value, size, low, high, steps + at);
      } else {
        exact_row(accumulator + at, size, output->bias + first, output->multiplier + first, output->shift + first,
                  output->rounding, output->low, output->high, steps + at);
      }
    }
    merge(&piece, size, &ends, &nans);
  }
  if (nans) ends.low = ends.high = __builtin_nanf("");
  return ends;
}

WIDE static void backward_row(const float *restrict grad, const uint8_t *restrict inside, const float *restrict factor,
                              int64_t size, float *restrict out, float *restrict sums) {
  for (int64_t c = 0; c < size; ++c) {
    const float passed = inside[c] ? grad[c] : 0.0f;
    out[c] = passed * factor[c];
    sums[c] += passed;
  }
}

WIDE static void backward_row_with_factor(const float *restrict grad, const uint8_t *restrict inside,
                                          const float *restrict factor, const float *restrict a, int64_t size,
                                          float *restrict out, float *restrict sums, float *restrict products) {
  for (int64_t c = 0; c < size; ++c) {
    const float passed = inside[c] ? grad[c] : 0.0f;
    out[c] = passed * factor[c];
    sums[c] += passed;
    products[c] += passed * a[c];
  }
}

static void fold(float *sums, int64_t size, double *total) {
  for (int64_t c = 0; c < size; ++c) {
    total[c] += (double)sums[c];
    sums[c] = 0.0f;
  }
}

void training_finish_backward(training_rows rows, const float *grad, const uint8_t *inside, const float *factor,
                              const float *accumulator, float *to_accumulator, double *to_offset, double *to_factor) {
  for (int64_t first = 0; first < rows.channels; first += PIECE) {
    const int64_t size = least(PIECE, rows.channels - first);
    float sums[PIECE] = {0}, products[PIECE] = {0};
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t at = row * rows.channels + first;
      if (accumulator == NULL) {
        backward_row(grad + at, inside + at, factor + first, size, to_accumulator + at, sums);
      } else {
        backward_row_with_factor(grad + at, inside + at, factor + first, accumulator + at, size, to_accumulator + at,
                                 sums, products);
      }
      if ((row - rows.begin) % FOLD == FOLD - 1 || row == rows.end - 1) {
        fold(sums, size, to_offset + first);
        if (accumulator != NULL) fold(products, size, to_factor + first);
      }
    }
  }
}

WIDE static void sums_row(const float *restrict x, int64_t size, double *restrict sum, double *restrict squares) {
  for (int64_t c = 0; c < size; ++c) {
    const double value = x[c];
    sum[c] += value;
    squares[c] += value * value;
  }
}

void training_sums(training_rows rows, const float *x, double *sum, double *squares) {
  for (int64_t row = rows.begin; row < rows.end; ++row) sums_row(x + row * rows.channels, rows.channels, sum, squares);
}

WIDE static void affine_row(const float *restrict x, const float *restrict constant, const float *restrict slope,
                            int64_t size, float *restrict grad) {
  for (int64_t c = 0; c < size; ++c) grad[c] += constant[c] + slope[c] * x[c];
}

void training_add_affine(training_rows rows, const float *x, const float *constant, const float *slope, float *grad) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t at = row * rows.channels;
    affine_row(x + at, constant, slope, rows.channels, grad + at);
  }
}

WIDE static void weight_row(const float *restrict w, int64_t size, double gain, double scale, double low, double high,
                            float *restrict steps) {
  for (int64_t i = 0; i < size; ++i) {
    const double real = (double)w[i] * gain / scale;
    const double raised = real > low ? real : low;
    const double inner = raised < high ? raised : high;
    const double whole_part = (double)(int32_t)inner;
    const double rest = inner - whole_part;
    steps[i] = (float)(whole_part + (double)((rest >= 0.5) - (rest <= -0.5)));
  }
}

WIDE static void row_sums(const float *restrict steps, int64_t size, float *restrict magnitude,
                          float *restrict balance) {
  int32_t positive = 0, negative = 0;
  for (int64_t i = 0; i < size; ++i) {
    const int32_t q = (int32_t)steps[i];
    positive += q > 0 ? q : 0;
    negative += q < 0 ? q : 0;
  }
  *magnitude = (float)(positive - negative);
  *balance = (float)(positive + negative);
}

void training_weight(training_rows rows, const float *weight, const double *gain, const double *scale, bool per_channel,
                     int32_t low, int32_t high, float *steps, float *magnitude, float *balance) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float *out = steps + row * rows.channels;
    weight_row(weight + row * rows.channels, rows.channels, gain == NULL ? 1.0 : gain[row],
               scale[per_channel ? row : 0], low, high, out);
    row_sums(out, rows.channels, magnitude + row, balance + row);
  }
}

WIDE static float reach_row(const float *restrict w, int64_t size) {
  float most = 0.0f;
  int32_t nans = 0;
  for (int64_t i = 0; i < size; ++i) {
    const float magnitude = w[i] < 0 ? -w[i] : w[i];
    most = magnitude > most ? magnitude : most;
    nans |= w[i] != w[i];
  }
  return nans ? __builtin_nanf("") : most;
}

void training_reach(training_rows rows, const float *weight, float *reach) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    reach[row] = reach_row(weight + row * rows.channels, rows.channels);
  }
}
