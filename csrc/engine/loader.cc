#include "loader.h"

#include <algorithm>
#include <stdexcept>

namespace unfloat {
namespace {

constexpr int64_t kMaxExtent = 1 << 15;  // of kernels, strides, dilations, paddings: their products stay inside int32

std::string text(const Shape &shape) {
  std::string joined = "[";
  for (size_t i = 0; i < shape.size(); ++i) joined += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return joined + "]";
}

constexpr int32_t kMaxShift = 30, kMaxWideShift = 7;
constexpr int64_t kMaxWide = (int64_t{1} << 47) - 1;  // of accumulators of 64 bits

}  // namespace

void Loader::fail(const std::string &problem) const {
  throw std::invalid_argument("layer '" + instruction_.name + "' (" + instruction_.op + "): " + problem);
}

void Loader::require(bool condition, const std::string &problem) const {
  if (!condition) fail(problem);
}

void Loader::require_inputs(size_t count) const {
  require(layer_.operands.size() == count,
          "needs " + std::to_string(count) + " inputs, found " + std::to_string(layer_.operands.size()));
}

void Loader::require_activations() const {
  for (const Tensor *operand : layer_.operands) require(!operand->constant, "its inputs must be activations");
}

void Loader::require_same_storage() const {
  for (const Tensor *operand : layer_.operands) {
    const bool alike = operand->view.offset == output().offset && operand->view.width == output().width;
    require(alike, "its inputs and output must have one type, int8, uint8 or int16");
  }
}

void Loader::require_rank(const uf_tensor &tensor, int rank) const {
  require(tensor.rank == rank, "needs tensors of " + std::to_string(rank) + " dimensions with the batch, found " +
                                   std::to_string(tensor.rank));
}

const Attribute &Loader::attribute(const std::string &name) const {
  const auto found = instruction_.attributes.find(name);
  if (found == instruction_.attributes.end()) fail("misses the attribute '" + name + "'");
  return found->second;
}

std::vector<int64_t> Loader::integers(const std::string &name) const {
  const Attribute &value = attribute(name);
  if (const auto *list = std::get_if<std::vector<int64_t>>(&value)) return *list;
  if (const auto *single = std::get_if<int64_t>(&value)) return {*single};
  fail("the attribute '" + name + "' must hold integers");
}

std::vector<int32_t> Loader::integers(const std::string &name, size_t count, int64_t low, int64_t high) const {
  const std::vector<int64_t> values = integers(name);
  require(values.size() == count, "the attribute '" + name + "' must hold " + std::to_string(count) +
                                      " integers, found " + std::to_string(values.size()));
  for (const int64_t value : values) {
    require(low <= value && value <= high, "the attribute '" + name + "' must lie in [" + std::to_string(low) + ", " +
                                               std::to_string(high) + "], found " + std::to_string(value));
  }
  return std::vector<int32_t>(values.begin(), values.end());
}

int32_t Loader::integer(const std::string &name, int64_t low, int64_t high) const {
  return integers(name, 1, low, high)[0];
}

int32_t Loader::code(const std::string &name, const uf_tensor &tensor) const {
  if (tensor.width == 2) return integer(name, INT16_MIN, INT16_MAX);
  return integer(name, -tensor.offset, 255 - tensor.offset) + tensor.offset;
}

int32_t Loader::zero_point(const std::string &name, const uf_tensor &tensor) const {
  const int32_t found = code(name, tensor);
  require(tensor.width == 1 || found == 0,
          "the attribute '" + name + "' must be 0, as the zero point of int16 codes is");
  return found;
}

const int32_t *Loader::indices(const std::string &name, int32_t count, int32_t size) {
  const auto values = integers(name, static_cast<size_t>(count), 0, int64_t{size} - 1);
  layer_.indices = Buffer(values.data(), values.size() * sizeof(int32_t));
  return reinterpret_cast<const int32_t *>(layer_.indices.data());
}

uf_output Loader::output_stage() const {
  const auto *rounding = std::get_if<std::string>(&attribute("rounding"));
  require(rounding && (*rounding == "double" || *rounding == "single" || *rounding == "acc64"),
          "its rounding must be 'double', 'single' or 'acc64'");
  uf_output stage;
  stage.zero_point = zero_point("output_zero_point", output());
  stage.clamp_min = code("clamp_min", output());
  stage.clamp_max = code("clamp_max", output());
  stage.rounding = *rounding == "acc64" ? QMATH_ACC64 : *rounding == "single" ? QMATH_SINGLE : QMATH_DOUBLE;
  require(stage.clamp_min <= stage.clamp_max, "clamp_min must not exceed clamp_max");
  return stage;
}

void Loader::require_kernel(int32_t kernel_h, int32_t kernel_w) const {
  require(std::min(kernel_h, kernel_w) >= 1, "its kernel is empty");
  require(std::max(kernel_h, kernel_w) <= kMaxExtent, "its kernel is too large");
}

uf_window Loader::window(int32_t kernel_h, int32_t kernel_w, bool dilated) const {
  require_rank(input(), 4);
  require_rank(output(), 4);
  require_kernel(kernel_h, kernel_w);
  const auto stride = integers("stride", 2, 1, kMaxExtent);
  const auto dilation = dilated ? integers("dilation", 2, 1, kMaxExtent) : std::vector<int32_t>{1, 1};
  const auto padding = integers("padding", 4, 0, kMaxExtent);
  const int32_t kernel[] = {kernel_h, kernel_w};
  for (size_t axis = 0; axis < 2; ++axis) {
    const int64_t padded = int64_t{input().shape[axis + 1]} + padding[axis] + padding[axis + 2];
    const int64_t rest = padded - (int64_t{kernel[axis] - 1} * dilation[axis] + 1);
    require(rest >= 0 && rest / stride[axis] + 1 == output().shape[axis + 1],
            "its window, strides and padding do not give the output's shape");
    require(padded + int64_t{kernel[axis]} * dilation[axis] + stride[axis] <= INT32_MAX, "its image is too large");
  }
  return {kernel_h, kernel_w, stride[0], stride[1], dilation[0], dilation[1], padding[0], padding[1]};
}

uf_window Loader::transposed_window(int32_t kernel_h, int32_t kernel_w) const {
  require_rank(input(), 4);
  require_rank(output(), 4);
  require_kernel(kernel_h, kernel_w);
  const auto stride = integers("stride", 2, 1, kMaxExtent);
  const auto crop = integers("crop", 2, 0, INT32_MAX);
  const auto size = integers("size", 2, 1, INT32_MAX);
  const int32_t kernel[] = {kernel_h, kernel_w};
  for (size_t axis = 0; axis < 2; ++axis) {
    const int64_t made = (int64_t{input().shape[axis + 1]} - 1) * stride[axis] + kernel[axis];
    require(crop[axis] < made && int64_t{crop[axis]} + size[axis] < made + stride[axis],
            "its crop leaves what it makes");
    require(size[axis] == output().shape[axis + 1], "its size is not the output's");
    require(made + stride[axis] <= INT32_MAX, "it makes too many rows");
  }
  return {kernel_h, kernel_w, stride[0], stride[1], 1, 1, crop[0], crop[1]};
}

const Array &Loader::constant(const std::string &name) const {
  const auto found = instruction_.constants.find(name);
  if (found == instruction_.constants.end()) fail("misses the constant '" + name + "'");
  return found->second;
}

void Loader::load_linear(const Shape &weight_shape, int32_t outputs) {
  uf_linear &linear = params().linear;
  const bool wide = input().width == 2;
  linear.input_zero_point = zero_point("input_zero_point", input());
  linear.output = output_stage();
  require((linear.output.rounding == QMATH_ACC64) == wide,
          "its rounding must be 'acc64' on int16 codes, and there alone");
  linear.weight = load_weight(weight_shape, &linear.weight_zero_point);
  require(!wide || linear.weight_zero_point == 0, "its weight must be symmetric under int16 codes");
  layer_.bias = wide ? load_int64("bias", outputs) : load_int32("bias", outputs, INT32_MIN);
  layer_.multiplier = load_int32("multiplier", outputs, 0);
  layer_.shift = load_shifts(outputs, wide ? kMaxWideShift : kMaxShift);
  auto *multiplier = reinterpret_cast<int32_t *>(layer_.multiplier.data());
  if (wide) std::transform(multiplier, multiplier + outputs, multiplier, qmath_reduced_multiplier);
  linear.bias = wide ? nullptr : reinterpret_cast<const int32_t *>(layer_.bias.data());
  linear.wide_bias = wide ? reinterpret_cast<const int64_t *>(layer_.bias.data()) : nullptr;
  linear.multiplier = multiplier;
  linear.shift = reinterpret_cast<const int8_t *>(layer_.shift.data());
}

// A table of codes becomes one of bytes. Its entries are in the order of the codes' bytes; a byte of int8 is the code
// plus 128.
void Loader::load_table() {
  const Array &table = constant("table");
  const bool words = input().width == 2;
  const int64_t count = words ? QMATH_SEGMENTS + 2 : 256;
  require(table.dtype == DType::kInt16 && table.shape == Shape{count},
          "its table must be int16 of shape [" + std::to_string(count) + "], found " + text(table.shape));
  Buffer copy(table.data, static_cast<size_t>(count) * sizeof(int16_t));  // aligned, as the array may not be
  const auto *entries = reinterpret_cast<const int16_t *>(copy.data());
  uf_lookup &lookup = params().lookup;
  if (words) {
    layer_.table = std::move(copy);
    lookup.ends = reinterpret_cast<const int16_t *>(layer_.table.data());
    return;
  }
  layer_.table = Buffer(static_cast<size_t>(count));
  for (int32_t byte = 0; byte < count; ++byte) {
    const int32_t found = entries[(byte - input().offset) & UINT8_MAX] + output().offset;
    require(0 <= found && found <= UINT8_MAX, "its table holds a number that is no code of its output");
    layer_.table.data()[byte] = static_cast<uint8_t>(found);
  }
  lookup.bytes = layer_.table.data();
}

// Weights as int8, borrowed until they are packed: uint8 codes and their zero point both move down by 128.
const int8_t *Loader::load_weight(const Shape &shape, int32_t *zero_point) {
  const Array &weight = constant("weight");
  require(weight.dtype == DType::kInt8 || weight.dtype == DType::kUint8, "its weight must be int8 or uint8");
  require(weight.shape == shape, "its weight must have the shape " + text(shape) + ", found " + text(weight.shape));
  size_t size = 1;
  for (const int64_t extent : shape) size *= static_cast<size_t>(extent);
  if (weight.dtype == DType::kInt8) {
    *zero_point = integer("weight_zero_point", -128, 127);
    layer_.borrowed = size;
    return static_cast<const int8_t *>(weight.data);
  }
  *zero_point = integer("weight_zero_point", 0, 255) - 128;
  layer_.weight = Buffer(weight.data, size);
  for (size_t i = 0; i < size; ++i) layer_.weight.data()[i] ^= 0x80;
  return reinterpret_cast<const int8_t *>(layer_.weight.data());
}

Buffer Loader::load_int32(const std::string &name, int32_t count, int32_t low) const {
  const Array &array = constant(name);
  require(array.dtype == DType::kInt32 && array.shape == Shape{count},
          "its " + name + " must be int32 of shape [" + std::to_string(count) + "], found " + text(array.shape));
  Buffer copy(array.data, static_cast<size_t>(count) * sizeof(int32_t));  // aligned, as the array may not be
  const auto *values = reinterpret_cast<const int32_t *>(copy.data());
  require(std::all_of(values, values + count, [low](int32_t value) { return value >= low; }),
          "its " + name + " must not be negative");
  return copy;
}

Buffer Loader::load_int64(const std::string &name, int32_t count) const {
  const Array &array = constant(name);
  require(array.dtype == DType::kInt64 && array.shape == Shape{count},
          "its " + name + " must be int64 of shape [" + std::to_string(count) + "], found " + text(array.shape));
  Buffer copy(array.data, static_cast<size_t>(count) * sizeof(int64_t));
  const auto *values = reinterpret_cast<const int64_t *>(copy.data());
  require(std::all_of(values, values + count, [](int64_t value) { return -kMaxWide <= value && value <= kMaxWide; }),
          "its " + name + " must fit 48 bits");
  return copy;
}

Buffer Loader::load_shifts(int32_t count, int32_t most) const {
  const Array &array = constant("shift");
  require(array.dtype == DType::kInt8 && array.shape == Shape{count},
          "its shift must be int8 of shape [" + std::to_string(count) + "], found " + text(array.shape));
  const auto *values = static_cast<const int8_t *>(array.data);
  require(std::all_of(values, values + count, [most](int8_t value) { return -31 <= value && value <= most; }),
          "its shift must lie in [-31, " + std::to_string(most) + "]");
  return Buffer(values, static_cast<size_t>(count));
}

Buffer Loader::load_array(const std::string &name, DType dtype, const Shape &shape) const {
  const Array &array = constant(name);
  require(array.dtype == dtype && array.shape == shape,
          "its " + name + " must have the shape " + text(shape) + " and its type, found " + text(array.shape));
  size_t size = dtype == DType::kInt8 ? 1 : dtype == DType::kInt16 ? sizeof(int16_t) : sizeof(int32_t);
  for (const int64_t extent : shape) size *= static_cast<size_t>(extent);
  return Buffer(array.data, size);
}

const uint8_t *Loader::keep(Buffer buffer) {
  layer_.kept.push_back(std::move(buffer));
  return layer_.kept.back().data();
}

const int16_t *Loader::words(const std::string &name, const Shape &shape) {
  if (constant(name).dtype != DType::kInt8) return array<int16_t>(name, shape);
  const Buffer bytes = load_array(name, DType::kInt8, shape);
  Buffer words(bytes.size() * sizeof(int16_t));
  std::copy_n(reinterpret_cast<const int8_t *>(bytes.data()), bytes.size(), reinterpret_cast<int16_t *>(words.data()));
  return reinterpret_cast<const int16_t *>(keep(std::move(words)));
}

const int32_t *Loader::multipliers(int32_t count) {
  return reinterpret_cast<const int32_t *>(keep(load_int32("multiplier", count, 0)));
}

const int8_t *Loader::shifts(int32_t count) {
  return reinterpret_cast<const int8_t *>(keep(load_shifts(count, kMaxShift)));
}

}  // namespace unfloat
