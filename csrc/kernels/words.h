// What the kernels on int16 codes share (C99). Their zero points are 0, their accumulators of 64 bits.

#ifndef UNFLOAT_KERNELS_WORDS_H_
#define UNFLOAT_KERNELS_WORDS_H_

#include "scalar.h"

// Products of a code and a weight have at most 22 bits and a sign: so many of them fit 32 bits together.
enum { UF_WORD_CHUNK = 256 };

static inline const int16_t *uf_words(const uint8_t *data) { return (const int16_t *)(const void *)data; }

static inline int16_t *uf_words_of(const uf_tensor *tensor) { return (int16_t *)(void *)tensor->data; }

// bias + sum w * x.
static inline int64_t uf_dot_words(int64_t bias, const int16_t *x, const int8_t *w, int64_t count) {
  int64_t sum = bias;
  for (int64_t at = 0; at < count; at += UF_WORD_CHUNK) {
    const int64_t end = count - at < UF_WORD_CHUNK ? count : at + UF_WORD_CHUNK;
    int32_t part = 0;
    for (int64_t i = at; i < end; ++i) part += x[i] * (int16_t)w[i];
    sum += part;
  }
  return sum;
}

// Rescales the accumulators of output channels [first, first + count) to codes.
static inline void uf_emit_words(const uf_linear *linear, const int64_t *sums, int64_t first, int64_t count,
                                 int16_t *out) {
  const int32_t *multiplier = linear->multiplier + first;
  const int8_t *shift = linear->shift + first;
  const uf_output output = linear->output;
  for (int64_t c = 0; c < count; ++c) out[c] = uf_emit_word(sums[c], multiplier[c], shift[c], &output);
}

// Collects the codes under a window, [groups][taps][depth]; 0, which stands for padding, outside the image.
static inline void uf_gather_words(const uf_node *node, const uf_pixel *pixel, int16_t *patch) {
  const uf_linear *linear = &node->params.linear;
  const uf_window *window = &linear->window;
  const int64_t depth = node->inputs[0]->shape[3] / linear->groups, taps = (int64_t)window->kernel_h * window->kernel_w;
  const bool whole = pixel->rows.begin == 0 && pixel->rows.end == window->kernel_h && pixel->columns.begin == 0 &&
                     pixel->columns.end == window->kernel_w;
  if (!whole) memset(patch, 0, (size_t)(taps * depth * linear->groups) * sizeof(int16_t));
  for (int32_t i = pixel->rows.begin; i < pixel->rows.end; ++i) {
    for (int32_t j = pixel->columns.begin; j < pixel->columns.end; ++j) {
      const int16_t *x = uf_words(uf_tap(node, window, pixel, i, j));
      int16_t *tap = patch + ((int64_t)i * window->kernel_w + j) * depth;
      for (int32_t group = 0; group < linear->groups; ++group, x += depth, tap += taps * depth) {
        memcpy(tap, x, (size_t)depth * sizeof(int16_t));
      }
    }
  }
}

#endif  // UNFLOAT_KERNELS_WORDS_H_
