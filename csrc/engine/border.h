// Between real numbers in a model's own layout and codes in the inner one.

#ifndef UNFLOAT_ENGINE_BORDER_H_
#define UNFLOAT_ENGINE_BORDER_H_

#include <cstdint>
#include <vector>

#include "instruction.h"
#include "rows.h"

namespace unfloat {

// Codes as an array of any layout; strides in bytes.
struct StridedCodes {
  uint8_t *data;
  DType dtype;  // kUint8 for an engine's own bytes
  std::vector<int64_t> shape, strides;

  int64_t size() const;
};

// The same codes, dense in the order of `shape`, with their axes in another order: axis i becomes axis permutation[i].
StridedCodes permuted(uint8_t *data, DType dtype, const std::vector<int64_t> &shape,
                      const std::vector<int> &permutation);

// Fills codes from real numbers, dense in the order of the codes' shape: one thread's share of them. False where one is
// NaN.
bool quantize(const float *x, const rows_label &label, const StridedCodes &codes, int thread = 0, int threads = 1);

// Fills real numbers from codes.
void dequantize(const StridedCodes &codes, const rows_label &label, float *x);

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_BORDER_H_
