// LSTM: for each row in time four gates, from the row and the last output, and a cell of 16 bits (eq. 51 to 53). A
// state is the last output's steps, then the cell.

#include "../scalar.h"

enum { GATE_INPUT, GATE_FORGET, GATE_CELL, GATE_OUTPUT, GATES };

static inline int32_t word(int32_t x) { return qmath_clamp(x, INT16_MIN, INT16_MAX); }

static inline int32_t scaled(const uf_lstm *lstm, int32_t x, int32_t multiplier, int32_t shift) {
  return qmath_requantize(x, multiplier, shift, lstm->output.rounding);
}

// What enters every unit of every gate, Q3.12: [4][units].
static void sum_gates(const uf_lstm *lstm, const uint8_t *x, int32_t inputs, const int16_t *hidden, int32_t units,
                      int16_t *gates) {
  for (int32_t row = 0; row < GATES * units; ++row) {
    const int32_t gate = row / units;
    const int32_t entering =
        uf_dot(lstm->bias[row], x, lstm->input_zero_point, lstm->weight + (ptrdiff_t)row * inputs, 0, inputs);
    const int8_t *recurrent = lstm->recurrent + (ptrdiff_t)row * units;
    int32_t own = 0;
    for (int32_t i = 0; i < units; ++i) own += hidden[i] * recurrent[i];
    const int32_t first = word(scaled(lstm, entering, lstm->multiplier[gate], lstm->shift[gate]));
    const int32_t second = word(scaled(lstm, own, lstm->multiplier[GATES + gate], lstm->shift[GATES + gate]));
    gates[row] = (int16_t)word(first + second);
  }
}

static inline int32_t logistic(const uf_lstm *lstm, int32_t gate) {
  static const qmath_curve curve = {12288, 12, 9, 1 << 24, 10};
  return qmath_along_curve(gate, lstm->logistic, &curve);
}

static inline int32_t tanh_of_gate(const uf_lstm *lstm, int32_t gate) {
  static const qmath_curve curve = {12288, 12, 8, 0, 8};
  return qmath_along_curve(gate, lstm->tanh, &curve);
}

// Cell and output of one unit; `gates` points at its input gate.
static uint8_t update(const uf_lstm *lstm, const int16_t *gates, int32_t units, int16_t *hidden, int16_t *cell) {
  const int32_t half = 1 << 30;  // with a shift of -14, the factor 2^-15
  const int32_t input = logistic(lstm, gates[GATE_INPUT * units]), forget = logistic(lstm, gates[GATE_FORGET * units]);
  const int32_t made = tanh_of_gate(lstm, gates[GATE_CELL * units]), out = logistic(lstm, gates[GATE_OUTPUT * units]);
  const int32_t kept = word(scaled(lstm, forget * *cell, half, -14));
  const int32_t fresh = word(scaled(lstm, input * made, lstm->cell_multiplier, lstm->cell_shift));
  *cell = (int16_t)qmath_clamp(word(kept + fresh), lstm->cell_min, lstm->cell_max);
  const int32_t value = out * qmath_along_curve(*cell, lstm->tanh, &lstm->curve);
  const int32_t steps = scaled(lstm, value, lstm->output_multiplier, lstm->output_shift);
  const uf_output *output = &lstm->output;
  const int32_t byte = qmath_clamp_sum(steps, output->zero_point, output->clamp_min, output->clamp_max);
  *hidden = (int16_t)(byte - output->zero_point);
  return (uint8_t)byte;
}

// A thread's share is of samples: every row in time needs all of the one before.
static void run(const uf_node *node, int thread, int threads) {
  const uf_lstm *lstm = &node->params.lstm;
  const uf_tensor *input = node->inputs[0], *output = node->output;
  const int32_t times = input->shape[1], inputs = input->shape[2], units = output->shape[2];
  const uf_range samples = uf_share(output->shape[0], 1, thread, threads);
  int16_t *gates = uf_scratch(node, thread);
  for (ptrdiff_t sample = (ptrdiff_t)samples.begin; sample < samples.end; ++sample) {
    int16_t *hidden = node->state + sample * 2 * units, *cell = hidden + units;
    if (!lstm->carried) memset(hidden, 0, 2 * (size_t)units * sizeof(int16_t));
    for (int32_t time = 0; time < times; ++time) {
      const ptrdiff_t row = sample * times + time;
      sum_gates(lstm, input->data + row * inputs, inputs, hidden, units, gates);
      uint8_t *out = output->data + row * units;
      for (int32_t i = 0; i < units; ++i) out[i] = update(lstm, gates + i, units, hidden + i, cell + i);
    }
  }
}

static size_t scratch_size(const uf_node *node) { return GATES * (size_t)node->output->shape[2] * sizeof(int16_t); }

static size_t state_size(const uf_node *node) { return 2 * (size_t)node->output->shape[2]; }

UF_DEFINE_KERNEL(lstm, .scratch_size = scratch_size, .state_size = state_size, .run = run);
