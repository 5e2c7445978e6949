#include "training.h"

#include <string.h>

#include "wide.h"

// Channels at a time; stretches after which float sums go to double ones.
enum { PIECE = 512, FOLD = 16 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// --- walking over [rows, channels] in stretches ---
//
// A stretch is a piece of one row, or, where rows are short, several whole rows: a vector loop over 24 channels would
// spend its time on beginnings and ends. Numbers of a channel are repeated for each row of a stretch.

typedef struct {
  int64_t first, channels;  // of the piece
  int64_t rows;             // in a stretch
} piece_of_channels;

static piece_of_channels piece_at(training_rows rows, int64_t first) {
  const int64_t channels = least(PIECE, rows.channels - first);
  return (piece_of_channels){first, channels, rows.channels <= PIECE / 2 ? PIECE / rows.channels : 1};
}

static int64_t stretch_size(piece_of_channels piece, training_rows rows, int64_t row) {
  return least(piece.rows, rows.end - row) * piece.channels;
}

#define REPEATED(name, type)                                                                 \
  static void name(piece_of_channels piece, const type *restrict each, type *restrict out) { \
    for (int64_t r = 0; r < piece.rows; ++r) {                                               \
      memcpy(out + r * piece.channels, each + piece.first, piece.channels * sizeof(type));   \
    }                                                                                        \
  }
REPEATED(repeated_float, float)
REPEATED(repeated_int32, int32_t)
REPEATED(repeated_int8, int8_t)

// Adds a stretch's float sums to the channels' double ones and starts them anew.
static void fold(piece_of_channels piece, float *restrict sums, double *restrict total) {
  for (int64_t r = 0; r < piece.rows; ++r) {
    for (int64_t c = 0; c < piece.channels; ++c) total[piece.first + c] += (double)sums[r * piece.channels + c];
  }
  memset(sums, 0, PIECE * sizeof(float));
}

// --- forward ---

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
  float low[PIECE], high[PIECE];  // so far
  int32_t nans[PIECE];
} ends_piece;

typedef struct {
  float factor[PIECE], offset[PIECE];
  int32_t bias[PIECE], multiplier[PIECE];
  int8_t shift[PIECE];
  ends_piece ends;
} finish_piece;

static inline void watch(ends_piece *restrict ends, int64_t i, float v) {
  ends->low[i] = v < ends->low[i] ? v : ends->low[i];
  ends->high[i] = v > ends->high[i] ? v : ends->high[i];
  ends->nans[i] |= v != v;
}

WIDE static void real_stretch(const float *restrict a, int64_t size, finish_piece *restrict piece, float low,
                              float high, float *restrict value, uint8_t *restrict inside) {
  for (int64_t c = 0; c < size; ++c) {
    const float v = a[c] * piece->factor[c] + piece->offset[c];
    value[c] = v;
    inside[c] = (uint8_t)((v >= low) & (v <= high));
    watch(&piece->ends, c, v);
  }
}

WIDE static void clamped_stretch(const float *restrict value, int64_t size, float low, float high,
                                 float *restrict steps) {
  for (int64_t c = 0; c < size; ++c) steps[c] = bounded(value[c], low, high);
}

WIDE static void rounded_stretch(const float *restrict value, int64_t size, float low, float high,
                                 float *restrict steps) {
  for (int64_t c = 0; c < size; ++c) steps[c] = qmath_round_half_away(bounded(value[c], low, high));
}

WIDE static void exact_stretch(const float *restrict a, int64_t size, const finish_piece *restrict piece,
                               qmath_rounding rounding, int32_t low, int32_t high, float *restrict steps) {
  if (rounding == QMATH_SINGLE) {
    for (int64_t c = 0; c < size; ++c) {
      const int32_t q = qmath_requantize_single(whole(a[c]) + piece->bias[c], piece->multiplier[c], piece->shift[c]);
      steps[c] = (float)qmath_clamp(q, low, high);
    }
  } else {
    for (int64_t c = 0; c < size; ++c) {
      const int32_t q = qmath_requantize_double(whole(a[c]) + piece->bias[c], piece->multiplier[c], piece->shift[c]);
      steps[c] = (float)qmath_clamp(q, low, high);
    }
  }
}

static void begin_ends(ends_piece *ends) {
  for (int64_t c = 0; c < PIECE; ++c) {
    ends->low[c] = __builtin_inff();
    ends->high[c] = -__builtin_inff();
    ends->nans[c] = 0;
  }
}

static void begin_finish(piece_of_channels at, const training_output *output, finish_piece *piece) {
  repeated_float(at, output->factor, piece->factor);
  repeated_float(at, output->offset, piece->offset);
  if (output->kind == TRAINING_EXACT) {
    repeated_int32(at, output->bias, piece->bias);
    repeated_int32(at, output->multiplier, piece->multiplier);
    repeated_int8(at, output->shift, piece->shift);
  }
  begin_ends(&piece->ends);
}

static void merge(const ends_piece *piece, training_ends *ends, bool *nans) {
  for (int64_t c = 0; c < PIECE; ++c) {
    if (piece->low[c] < ends->low) ends->low = piece->low[c];
    if (piece->high[c] > ends->high) ends->high = piece->high[c];
    *nans |= piece->nans[c] != 0;
  }
}

training_ends training_finish(training_rows rows, const float *accumulator, const training_output *output, float *steps,
                              uint8_t *inside) {
  const float low = output->low, high = output->high;
  training_ends ends = {__builtin_inff(), -__builtin_inff()};
  bool nans = false;
  for (int64_t first = 0; first < rows.channels; first += PIECE) {
    const piece_of_channels at = piece_at(rows, first);
    float value[PIECE];
    finish_piece piece;
    begin_finish(at, output, &piece);
    for (int64_t row = rows.begin; row < rows.end; row += at.rows) {
      const int64_t size = stretch_size(at, rows, row), here = row * rows.channels + first;
      real_stretch(accumulator + here, size, &piece, low, high, value, inside + here);
      if (output->kind == TRAINING_REAL) {
        clamped_stretch(value, size, low, high, steps + here);
      } else if (output->kind == TRAINING_ROUNDED) {
        rounded_stretch(value, size, low, high, steps + here);
      } else {
        exact_stretch(accumulator + here, size, &piece, output->rounding, (int32_t)low, (int32_t)high, steps + here);
      }
    }
    merge(&piece.ends, &ends, &nans);
  }
  if (nans) ends.low = ends.high = __builtin_nanf("");
  return ends;
}

static inline int32_t step_of(float x) { return (int32_t)bounded(x, -512.0f, 512.0f); }  // defined for every float

WIDE static void real_sums(const float *restrict a, const float *restrict b, int64_t size, const double factor[2],
                           float low, float high, ends_piece *restrict ends, uint8_t *restrict inside) {
  const double first = factor[0], second = factor[1];
  for (int64_t i = 0; i < size; ++i) {
    const float v = (float)((double)a[i] * first + (double)b[i] * second);  // operands often cancel: then to 0, a bound
    inside[i] = (uint8_t)((v >= low) & (v <= high));
    watch(ends, i, v);
  }
}

WIDE static void exact_sums(const float *restrict a, const float *restrict b, int64_t size, rows_addition by,
                            float *restrict steps) {
  if (by.rounding == QMATH_SINGLE) {
    for (int64_t i = 0; i < size; ++i) steps[i] = (float)rows_sum(step_of(a[i]), step_of(b[i]), &by, QMATH_SINGLE);
  } else {
    for (int64_t i = 0; i < size; ++i) steps[i] = (float)rows_sum(step_of(a[i]), step_of(b[i]), &by, QMATH_DOUBLE);
  }
}

training_ends training_add(training_rows rows, const float *a, const float *b, const rows_addition *addition,
                           const double factor[2], float *steps, uint8_t *inside) {
  training_ends ends = {__builtin_inff(), -__builtin_inff()};
  bool nans = false;
  ends_piece piece;
  begin_ends(&piece);
  const int64_t end = rows.end * rows.channels;
  for (int64_t here = rows.begin * rows.channels; here < end; here += PIECE) {
    const int64_t size = least(PIECE, end - here);
    real_sums(a + here, b + here, size, factor, (float)addition->clamp_min, (float)addition->clamp_max, &piece,
              inside + here);
    exact_sums(a + here, b + here, size, *addition, steps + here);
  }
  merge(&piece, &ends, &nans);
  if (nans) ends.low = ends.high = __builtin_nanf("");
  return ends;
}

// --- backward ---

WIDE static void sum_stretch(const float *restrict grad, const uint8_t *restrict inside, int64_t size,
                             float *restrict sums) {
  for (int64_t c = 0; c < size; ++c) {
    const float all = grad[c];
    sums[c] += inside[c] ? all : 0.0f;
  }
}

WIDE static void product_stretch(const float *restrict grad, const uint8_t *restrict inside, const float *restrict a,
                                 int64_t size, float *restrict sums, float *restrict products) {
  for (int64_t c = 0; c < size; ++c) {
    const float all = grad[c], passed = inside[c] ? all : 0.0f;
    sums[c] += passed;
    products[c] += passed * a[c];
  }
}

WIDE static void scaled_stretch(const float *restrict grad, const float *restrict steps, int64_t size,
                                float *restrict scaled) {
  for (int64_t c = 0; c < size; ++c) scaled[c] += grad[c] * steps[c];
}

WIDE static void pass_stretch(const float *restrict grad, const uint8_t *restrict inside, const float *restrict factor,
                              int64_t size, float *restrict out) {
  for (int64_t c = 0; c < size; ++c) {
    const float all = grad[c];
    out[c] = (inside[c] ? all : 0.0f) * factor[c];
  }
}

WIDE static void affine_stretch(const float *restrict a, const float *restrict constant, const float *restrict slope,
                                int64_t size, float *restrict out) {
  for (int64_t c = 0; c < size; ++c) out[c] += constant[c] + slope[c] * a[c];
}

typedef struct {
  float factor[PIECE], constant[PIECE], slope[PIECE];
  float passed[PIECE], products[PIECE], scaled[PIECE];
} backward_piece;

static void sum_gradients(const training_incoming *in, int64_t here, int64_t size, backward_piece *piece) {
  if (in->accumulator == NULL) {
    sum_stretch(in->grad + here, in->inside + here, size, piece->passed);
  } else {
    product_stretch(in->grad + here, in->inside + here, in->accumulator + here, size, piece->passed, piece->products);
  }
  if (in->steps != NULL) scaled_stretch(in->grad + here, in->steps + here, size, piece->scaled);
}

static void fold_gradients(piece_of_channels at, const training_incoming *in, backward_piece *piece,
                           const training_sums_of_gradients *sums) {
  fold(at, piece->passed, sums->passed);
  if (in->accumulator != NULL) fold(at, piece->products, sums->products);
  if (in->steps != NULL) fold(at, piece->scaled, sums->scaled);
}

void training_finish_backward(training_rows rows, const training_incoming *in, float *to_accumulator,
                              const training_sums_of_gradients *sums) {
  for (int64_t first = 0; first < rows.channels; first += PIECE) {
    const piece_of_channels at = piece_at(rows, first);
    backward_piece piece = {{0}, {0}, {0}, {0}, {0}, {0}};
    repeated_float(at, in->factor, piece.factor);
    if (in->constant != NULL) {
      repeated_float(at, in->constant, piece.constant);
      repeated_float(at, in->slope, piece.slope);
    }
    int64_t unfolded = 0;
    for (int64_t row = rows.begin; row < rows.end; row += at.rows) {
      const int64_t size = stretch_size(at, rows, row), here = row * rows.channels + first;
      if (sums != NULL) sum_gradients(in, here, size, &piece);
      if (sums != NULL && ++unfolded == FOLD) {
        fold_gradients(at, in, &piece, sums);
        unfolded = 0;
      }
      if (to_accumulator == NULL) continue;
      pass_stretch(in->grad + here, in->inside + here, piece.factor, size, to_accumulator + here);
      if (in->constant != NULL) {
        affine_stretch(in->accumulator + here, piece.constant, piece.slope, size, to_accumulator + here);
      }
    }
    if (sums != NULL) fold_gradients(at, in, &piece, sums);
  }
}

// --- statistics ---

WIDE static void square_stretch(const float *restrict x, int64_t size, double *restrict sum, double *restrict squares) {
  for (int64_t c = 0; c < size; ++c) {
    const double value = x[c];
    sum[c] += value;
    squares[c] += value * value;
  }
}

void training_sums(training_rows rows, const float *x, double *sum, double *squares) {
  for (int64_t first = 0; first < rows.channels; first += PIECE) {
    const piece_of_channels at = piece_at(rows, first);
    double sums[2][PIECE] = {{0}, {0}};
    for (int64_t row = rows.begin; row < rows.end; row += at.rows) {
      square_stretch(x + row * rows.channels + first, stretch_size(at, rows, row), sums[0], sums[1]);
    }
    for (int64_t i = 0; i < at.rows * at.channels; ++i) {
      sum[first + i % at.channels] += sums[0][i];
      squares[first + i % at.channels] += sums[1][i];
    }
  }
}

// --- weights ---

static inline double rounded(double inner) {
  const double whole_part = (double)(int32_t)inner;
  const double rest = inner - whole_part;
  return whole_part + (double)((rest >= 0.5) - (rest <= -0.5));
}

static inline double bounded_double(double x, double low, double high) {
  const double raised = x > low ? x : low;
  return raised < high ? raised : high;
}

WIDE static void divided_row(const float *restrict w, int64_t size, double gain, double scale, double low, double high,
                             float *restrict steps) {
  for (int64_t i = 0; i < size; ++i) {
    steps[i] = (float)rounded(bounded_double((double)w[i] * gain / scale, low, high));
  }
}

// As divided_row by a product, which costs far less than a division. The quotients differ by a few units in their last
// place: only one this close to a tie can round another way. Gives how many are.
WIDE static int32_t multiplied_row(const float *restrict w, int64_t size, double ratio, double low, double high,
                                   float *restrict steps) {
  int32_t doubtful = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double real = bounded_double((double)w[i] * ratio, low, high);
    const double whole_part = (double)(int32_t)real;
    const double rest = real - whole_part;
    doubtful += __builtin_fabs(__builtin_fabs(rest) - 0.5) < 1e-9;
    steps[i] = (float)(whole_part + (double)((rest >= 0.5) - (rest <= -0.5)));
  }
  return doubtful;
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
    const float *w = weight + row * rows.channels;
    float *out = steps + row * rows.channels;
    const double g = gain == NULL ? 1.0 : gain[row], s = scale[per_channel ? row : 0];
    if (multiplied_row(w, rows.channels, g / s, low, high, out) > 0)
      divided_row(w, rows.channels, g, s, low, high, out);
    row_sums(out, rows.channels, magnitude + row, balance + row);
  }
}

WIDE static void weight_stretch(const float *restrict grad, const float *restrict w, int64_t size, float slope,
                                float *restrict out, float *restrict to_gain) {
  for (int64_t i = 0; i < size; ++i) {
    out[i] = grad[i] * slope;
    to_gain[i] += grad[i] * w[i];
  }
}

WIDE static void clipped_stretch(const float *restrict grad, const float *restrict w, const float *restrict steps,
                                 int64_t size, float slope, float limit, float *restrict out, float *restrict to_gain,
                                 float *restrict missed) {
  for (int64_t i = 0; i < size; ++i) {
    const float real = w[i] * slope, all = grad[i];
    const bool in = (real >= -limit) & (real <= limit);
    const float passed = in ? all : 0.0f, inner = in ? real : 0.0f;
    out[i] = passed * slope;
    to_gain[i] += passed * w[i];
    missed[i] += all * (steps[i] - inner);
  }
}

// Values [first, first + size) of a row [depth, taps] that lies in memory as [taps, depth].
static const float *gathered(const float *restrict row, int64_t depth, int64_t taps, int64_t first, int64_t size,
                             float *restrict out) {
  if (taps == 1) return row + first;
  int64_t channel = first / taps, tap = first % taps;
  for (int64_t i = 0; i < size; ++i) {
    out[i] = row[tap * depth + channel];
    if (++tap == taps) {
      tap = 0;
      ++channel;
    }
  }
  return out;
}

static double total(const float *values) {
  double sum = 0;
  for (int64_t i = 0; i < PIECE; ++i) sum += (double)values[i];
  return sum;
}

void training_weight_backward(training_rows rows, const float *grad, int64_t taps, const float *weight,
                              const float *slope, bool per_channel, const float *steps, float limit, float *to_weight,
                              double *to_gain, double *missed) {
  const int64_t depth = rows.channels / taps;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float factor = slope[per_channel ? row : 0];
    float gains[PIECE] = {0}, misses[PIECE] = {0}, buffer[PIECE];
    for (int64_t first = 0; first < rows.channels; first += PIECE) {
      const int64_t size = least(PIECE, rows.channels - first), here = row * rows.channels + first;
      const float *g = gathered(grad + row * rows.channels, depth, taps, first, size, buffer);
      if (steps == NULL) {
        weight_stretch(g, weight + here, size, factor, to_weight + here, gains);
      } else {
        clipped_stretch(g, weight + here, steps + here, size, factor, limit, to_weight + here, gains, misses);
      }
    }
    to_gain[row] = total(gains);
    if (steps != NULL) missed[row] = total(misses);
  }
}

// Of a float without its sign, the bits grow with the number, and those of a NaN are greater than any number's.
WIDE static uint32_t greatest_bits(const float *restrict w, int64_t size) {
  uint32_t most = 0;
  for (int64_t i = 0; i < size; ++i) {
    union {
      float number;
      uint32_t bits;
    } value = {w[i]};
    const uint32_t magnitude = value.bits & 0x7fffffffu;
    most = magnitude > most ? magnitude : most;
  }
  return most;
}

void training_reach(training_rows rows, const float *weight, float *reach) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const uint32_t bits = greatest_bits(weight + row * rows.channels, rows.channels);
    memcpy(reach + row, &bits, sizeof bits);
  }
}
