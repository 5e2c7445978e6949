// Where a thread is among an image's rows, or bands of rows, and blocks of channels, in that order (C11).
//
// Counted on from its first place: a division for each would take longer than some rows do.

#ifndef UNFLOAT_KERNELS_DEPTHWISE_CONV2D_PLACES_H_
#define UNFLOAT_KERNELS_DEPTHWISE_CONV2D_PLACES_H_

#include <stdint.h>

typedef struct {
  int32_t rows, blocks;  // of a sample, of a row
  int64_t sample;
  int32_t row, block;
} place_type;

static inline place_type place_at(int64_t item, int32_t rows, int32_t blocks) {
  const place_type place = {rows, blocks, item / blocks / rows, (int32_t)(item / blocks % rows),
                            (int32_t)(item % blocks)};
  return place;
}

static inline void move_on(place_type *place) {
  if (++place->block < place->blocks) return;
  place->block = 0;
  if (++place->row < place->rows) return;
  place->row = 0;
  ++place->sample;
}

#endif  // UNFLOAT_KERNELS_DEPTHWISE_CONV2D_PLACES_H_
