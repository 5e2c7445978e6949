#include "border.h"

#include <functional>
#include <numeric>

#include "default_floats.h"
#include "kernel.h"

namespace unfloat {
namespace {

constexpr int64_t kWordBytes = sizeof(int16_t);

int16_t *words(uint8_t *data) { return reinterpret_cast<int16_t *>(data); }

int64_t row_count(const StridedCodes &codes) { return codes.shape.back() == 0 ? 0 : codes.size() / codes.shape.back(); }

// Calls row(i, offset) for each row i along the last axis, offset being that of its first element.
template <typename Row>
void for_each_row(const StridedCodes &codes, uf_range rows, Row row) {
  const size_t last = codes.shape.size() - 1;
  for (int64_t i = rows.begin; i < rows.end; ++i) {
    int64_t offset = 0, rest = i;
    for (size_t axis = last; axis-- > 0; rest /= codes.shape[axis]) {
      offset += rest % codes.shape[axis] * codes.strides[axis];
    }
    row(i, offset);
  }
}

// Whether codes (N, channels, ...) lie channels last, the other axes dense, and are so few that planes of them fit.
bool has_planes(const StridedCodes &codes) {
  const size_t last = codes.shape.size() - 1;
  if (codes.dtype == DType::kInt16 || last < 2 || codes.size() == 0 || codes.strides[1] != 1 ||
      codes.shape[1] > ROWS_MOST_PLANES)
    return false;
  int64_t dense = codes.shape[1];
  for (size_t axis = last; axis >= 2; --axis) {
    if (codes.strides[axis] != dense) return false;
    dense *= codes.shape[axis];
  }
  return true;
}

bool quantize_planes(const float *x, const rows_label &label, const StridedCodes &codes, int thread, int threads) {
  const int64_t samples = codes.shape[0], channels = codes.shape[1], plane = codes.size() / samples / channels;
  const uf_range pixels = uf_share(plane, UF_ALIGNMENT, thread, threads);
  bool numbers = true;
  for (int64_t i = 0; i < samples; ++i) {
    const float *from = x + i * channels * plane + pixels.begin;
    uint8_t *to = codes.data + i * codes.strides[0] + pixels.begin * channels;
    numbers = rows_quantize_planes(from, plane, channels, pixels.end - pixels.begin, &label, to) && numbers;
  }
  return numbers;
}

}  // namespace

int64_t StridedCodes::size() const {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
}

StridedCodes permuted(uint8_t *data, DType dtype, const std::vector<int64_t> &shape,
                      const std::vector<int> &permutation) {
  StridedCodes view = {data, dtype, std::vector<int64_t>(shape.size()), std::vector<int64_t>(shape.size())};
  int64_t stride = dtype == DType::kInt16 ? 2 : 1;
  for (size_t axis = shape.size(); axis-- > 0; stride *= shape[axis]) {
    const auto outer = static_cast<size_t>(permutation[axis]);
    view.shape[outer] = shape[axis];
    view.strides[outer] = stride;
  }
  return view;
}

bool quantize(const float *x, const rows_label &label, const StridedCodes &codes, int thread, int threads) {
  const DefaultFloats floats;
  if (has_planes(codes)) return quantize_planes(x, label, codes, thread, threads);
  const int64_t width = codes.shape.back(), stride = codes.strides.back();
  bool numbers = true;
  for_each_row(codes, uf_share(row_count(codes), 1, thread, threads), [&](int64_t i, int64_t offset) {
    uint8_t *to = codes.data + offset;
    const bool fine = codes.dtype == DType::kInt16
                          ? rows_quantize_words(x + i * width, width, &label, words(to), stride / kWordBytes)
                          : rows_quantize(x + i * width, width, &label, to, stride);
    numbers = fine && numbers;
  });
  return numbers;
}

void dequantize(const StridedCodes &codes, const rows_label &label, float *x) {
  const DefaultFloats floats;
  const int64_t width = codes.shape.back(), stride = codes.strides.back();
  for_each_row(codes, {0, row_count(codes)}, [&](int64_t i, int64_t offset) {
    uint8_t *from = codes.data + offset;
    if (codes.dtype == DType::kInt16) {
      rows_dequantize_words(words(from), stride / kWordBytes, width, &label, x + i * width);
    } else {
      rows_dequantize(from, stride, width, codes.dtype == DType::kInt8, &label, x + i * width);
    }
  });
}

}  // namespace unfloat
