// Every kernel of every family on awkward shapes, for sanitizer builds: no memory error, no undefined behaviour,
// nothing written outside the output, and the bytes of the family's scalar kernel, whatever the number of threads.
//
//   cmake -S . -B build/asan -DUNFLOAT_PYTHON=OFF -DUNFLOAT_TESTS=ON -DUNFLOAT_SANITIZE=address,undefined
//   cmake --build build/asan && ctest --test-dir build/asan --output-on-failure

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/layer.h"
#include "engine/level.h"
#ifdef UF_EMULATED
#include "emulated/cpu.h"
#endif

#define UF_KERNEL(family, variant) extern "C" const uf_kernel family##__##variant;
#include "all_kernels.inc"
#undef UF_KERNEL

namespace {

using unfloat::Array;
using unfloat::Buffer;
using unfloat::DType;
using unfloat::Instruction;
using unfloat::Layer;
using unfloat::Shape;
using unfloat::Tensor;

constexpr size_t kFence = 128;  // bytes on both sides of an output that must not change
constexpr uint8_t kMark = 0xa5;

std::mt19937 generator(1);

int64_t draw(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(generator); }

int64_t volume(const Shape &shape) {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

// One call of one operator: an instruction, the shapes around it (batch first) and the arrays it refers to.
struct Case {
  Instruction instruction;
  std::vector<Shape> inputs;
  Shape output;
  bool is_signed = true;
  int64_t least_byte = 0;                 // of the inputs
  bool words = false, words_out = false;  // int16 codes in, and out
  size_t numbers = SIZE_MAX;              // the input that holds int16 numbers, whatever the others hold
  std::vector<std::vector<uint8_t>> arrays = {};
};

template <typename T>
void add_constant(Case *test, const std::string &role, DType dtype, const Shape &shape, int64_t low, int64_t high) {
  std::vector<uint8_t> bytes(static_cast<size_t>(volume(shape)) * sizeof(T));
  for (size_t i = 0; i < bytes.size(); i += sizeof(T)) {
    const T value = static_cast<T>(draw(low, high));
    std::memcpy(&bytes[i], &value, sizeof(T));
  }
  test->arrays.push_back(std::move(bytes));
  test->instruction.constants[role] = Array{test->arrays.back().data(), dtype, shape};
}

// Now and then the zero point is the least code, as behind a ReLU, and the clamp the codes' own: kernels have faster
// forms for these.
void add_output_stage(Case *test) {
  auto &attributes = test->instruction.attributes;
  const int64_t low = test->is_signed ? -128 : 0;
  const bool whole = draw(0, 1) == 0;
  attributes["output_zero_point"] = low + (draw(0, 1) == 0 ? 0 : draw(0, 255));
  attributes["clamp_min"] = low + (whole ? 0 : draw(0, 100));
  attributes["clamp_max"] = low + (whole ? 255 : draw(100, 255));
  attributes["rounding"] = std::string(draw(0, 1) ? "double" : "single");
}

void add_linear(Case *test, const Shape &weight, int64_t outputs) {
  add_output_stage(test);
  test->instruction.attributes["input_zero_point"] = (test->is_signed ? -128 : 0) + draw(0, 255);
  test->instruction.attributes["weight_zero_point"] = test->is_signed ? int64_t{0} : draw(1, 255);
  if (test->is_signed) {
    add_constant<int8_t>(test, "weight", DType::kInt8, weight, -127, 127);
  } else {
    add_constant<uint8_t>(test, "weight", DType::kUint8, weight, 1, 255);
  }
  add_constant<int32_t>(test, "bias", DType::kInt32, {outputs}, -100000, 100000);
  add_constant<int32_t>(test, "multiplier", DType::kInt32, {outputs}, 1 << 30, INT32_MAX);
  add_constant<int8_t>(test, "shift", DType::kInt8, {outputs}, -12, draw(0, 1) == 0 ? -5 : 3);  // left: the exact form
}

std::vector<int64_t> pair(int64_t a, int64_t b) { return {a, b}; }

// A window of random geometry over an image; returns the output's rows and columns.
Shape place_window(Case *test, const Shape &image, const Shape &kernel, const Shape &stride, const Shape &dilation) {
  std::vector<int64_t> padding(4);
  Shape places;
  for (size_t axis = 0; axis < 2; ++axis) {
    const int64_t span = (kernel[axis] - 1) * dilation[axis] + 1;
    padding[axis] = draw(0, kernel[axis] - 1);
    padding[axis + 2] = draw(0, kernel[axis] - 1);
    while (image[axis + 1] + padding[axis] + padding[axis + 2] < span) ++padding[axis + 2];
    places.push_back((image[axis + 1] + padding[axis] + padding[axis + 2] - span) / stride[axis] + 1);
  }
  auto &attributes = test->instruction.attributes;
  attributes["stride"] = pair(stride[0], stride[1]);
  attributes["padding"] = padding;
  attributes["dilation"] = pair(dilation[0], dilation[1]);
  return places;
}

Shape add_window(Case *test, const Shape &image, const Shape &kernel, bool pooling) {
  const Shape stride = {draw(1, 3), draw(1, 3)};
  const Shape dilation = {pooling ? 1 : draw(1, 2), pooling ? 1 : draw(1, 2)};
  const Shape places = place_window(test, image, kernel, stride, dilation);
  if (pooling) test->instruction.attributes.erase("dilation");
  return places;
}

// --- one maker for each family; `channels` is the interesting number ---

Shape image_of(int64_t channels) { return {draw(1, 3), draw(2, 9), draw(2, 9), channels}; }

Case conv2d_of(int64_t channels, bool is_signed) {
  Case test;
  test.is_signed = is_signed;
  const int64_t groups = channels % 4 == 0 && draw(0, 2) == 0 ? 4 : 1;
  const int64_t outputs = groups * draw(1, 70 / groups);
  const Shape image = image_of(channels), kernel = {draw(1, 3), draw(1, 3)};
  const Shape places = add_window(&test, image, kernel, false);
  test.instruction.attributes["groups"] = groups;
  add_linear(&test, {outputs, kernel[0], kernel[1], channels / groups}, outputs);
  test.inputs = {image};
  test.output = {image[0], places[0], places[1], outputs};
  return test;
}

Case conv2d(int64_t channels) { return conv2d_of(channels, draw(0, 3) > 0); }

// Weights that have a zero point.
Case shifted_conv2d(int64_t channels) { return conv2d_of(channels, false); }

// A square kernel; the output has a row for each of the image's.
Case square_conv2d(const Shape &image, int64_t outputs, int64_t size, int64_t stride) {
  Case test;
  auto &attributes = test.instruction.attributes;
  attributes["stride"] = pair(1, stride);
  attributes["dilation"] = pair(1, 1);
  attributes["padding"] = std::vector<int64_t>(4, size / 2);
  attributes["groups"] = int64_t{1};
  add_linear(&test, {outputs, size, size, image[3]}, outputs);
  test.inputs = {image};
  test.output = {image[0], image[1], (image[2] - 1) / stride + 1, outputs};
  return test;
}

Case pointwise_conv2d(const Shape &image, int64_t outputs) { return square_conv2d(image, outputs, 1, 1); }

// Windows of 3x3 at stride 1 under any padding, and depths that Winograd's form takes.
Case plain_windows(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 3) > 0;
  const Shape image = {draw(1, 2), draw(5, 14), draw(5, 14), 16 * (channels % 5 + 1)}, kernel = {3, 3};
  const Shape places = place_window(&test, image, kernel, {1, 1}, {1, 1});
  const int64_t outputs = draw(0, 2) == 0 ? 32 : draw(16, 70);  // with 32, two squares share a row
  add_linear(&test, {outputs, kernel[0], kernel[1], image[3]}, outputs);
  if (!test.is_signed) test.instruction.attributes["weight_zero_point"] = int64_t{128};  // as signed ones: 0
  test.instruction.attributes["groups"] = int64_t{1};
  test.inputs = {image};
  test.output = {image[0], places[0], places[1], outputs};
  return test;
}

// So few pixels and so many channels that threads share the channels.
Case wide_conv2d(int64_t channels) { return pointwise_conv2d({1, draw(1, 3), draw(1, 3), channels}, draw(520, 600)); }

// So many pixels that some of every level's tiles are read where they lie.
Case long_conv2d(int64_t channels) {
  return pointwise_conv2d({draw(1, 2), draw(4, 9), draw(5, 12), channels}, draw(1, 140));
}

// Many products for each output, and many outputs of a pixel.
Case deep_pixels(int64_t channels) {
  const int64_t size = draw(0, 1) == 0 ? 1 : 3, depth = (size == 1 ? 128 : 16) + 4 * (channels % 9);
  return square_conv2d({draw(1, 2), draw(1, 5), draw(2, 9), depth}, draw(96, 140), size, draw(1, 2));
}

// Rows of so many pixels that kernel rows are runs and tiles of every size follow each other.
Case broad_conv2d(int64_t channels) {
  const int64_t depth = channels < 17 ? channels : channels % 16 + 1;
  return square_conv2d({1, 5, draw(30, 70), depth}, draw(1, 70), 3, draw(1, 2));
}

Case depthwise_of(const Shape &image) {
  Case test;
  test.is_signed = draw(0, 3) > 0;
  const int64_t outputs = image[3] * (draw(0, 3) == 0 ? 2 : 1);
  const Shape kernel = {draw(1, 5), draw(1, 5)};
  const Shape places = add_window(&test, image, kernel, false);
  add_linear(&test, {kernel[0], kernel[1], outputs}, outputs);
  test.inputs = {image};
  test.output = {image[0], places[0], places[1], outputs};
  return test;
}

Case depthwise_conv2d(int64_t channels) { return depthwise_of(image_of(channels)); }

Case broad_depthwise_conv2d(int64_t channels) { return depthwise_of({draw(1, 2), 5, draw(20, 70), channels}); }

Case square_depthwise(const Shape &image, int64_t kernel, const Shape &stride, const Shape &dilation) {
  Case test;
  test.is_signed = draw(0, 3) > 0;
  const Shape places = place_window(&test, image, {kernel, kernel}, stride, dilation);
  add_linear(&test, {kernel, kernel, image[3]}, image[3]);
  test.inputs = {image};
  test.output = {image[0], places[0], places[1], image[3]};
  return test;
}

// 3x3 at stride 2, which has a kernel of its own, on rows of several tiles.
Case depthwise_stride2(int64_t channels) {
  return square_depthwise({draw(1, 3), draw(2, 9), draw(2, 20), channels}, 3, {draw(1, 2), 2}, {1, 1});
}

// 3x3 and 5x5 whose columns stand side by side, which have kernels of their own: any rows, images below the kernel too.
Case depthwise_rows(int64_t channels) {
  return square_depthwise({draw(1, 3), draw(1, 9), draw(1, 20), channels}, draw(0, 1) == 0 ? 3 : 5,
                          {draw(1, 3), draw(1, 2)}, {draw(1, 3), 1});
}

// 3x3 at stride 1 in blocks of 32 channels, the last one from full to nearly empty.
Case plain_depthwise(int64_t channels) {
  const int64_t blocks = channels % 7 + 1, most_empty = std::min<int64_t>(31, 32 * blocks / 6 + 1);
  const Shape image = {draw(1, 2), draw(1, 9), draw(1, 20), 32 * blocks - draw(0, static_cast<int>(most_empty))};
  Case test = square_depthwise(image, 3, {1, 1}, {1, 1});
  if (!test.is_signed) test.instruction.attributes["weight_zero_point"] = int64_t{128};  // as signed ones: 0
  return test;
}

Case fully_connected(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 3) > 0;
  const int64_t rows = draw(1, 9), outputs = draw(1, 70);
  add_linear(&test, {outputs, channels}, outputs);
  test.inputs = {{rows, channels}};
  test.output = {rows, outputs};
  return test;
}

Case pool2d(int64_t channels) {
  Case test;
  const Shape image = image_of(channels), kernel = {draw(1, 3), draw(1, 3)};
  const Shape places = add_window(&test, image, kernel, true);
  test.instruction.attributes["kernel"] = pair(kernel[0], kernel[1]);
  test.is_signed = draw(0, 1) == 1;
  test.inputs = {image};
  test.output = {image[0], places[0], places[1], channels};
  // Where the padding had to grow past the kernel the operator forbids the case: take another.
  const auto &padding = std::get<std::vector<int64_t>>(test.instruction.attributes["padding"]);
  for (size_t side = 0; side < 4; ++side) {
    if (padding[side] >= kernel[side % 2]) return pool2d(channels);
  }
  return test;
}

void broadcast(Case *test, int64_t channels) {
  test->output = image_of(channels);
  test->inputs = {test->output, test->output};
  Shape &second = test->inputs[draw(0, 1) == 0 ? 0 : 1];
  for (size_t axis = 1; axis < 4; ++axis) {
    if (draw(0, 2) == 0) second[axis] = 1;
  }
  add_output_stage(test);
  test->instruction.attributes["input_zero_points"] = pair(draw(-128, 127), draw(-128, 127));
}

void add_addition(Case *test) {
  auto &attributes = test->instruction.attributes;
  attributes["left_shift"] = int64_t{20};
  attributes["input_multipliers"] = pair(draw(1 << 30, INT32_MAX), int64_t{1} << 30);
  attributes["input_shifts"] = pair(draw(-6, -1), 0);
  attributes["output_multiplier"] = draw(1 << 30, INT32_MAX);
  attributes["output_shift"] = draw(-20, -16);
}

Case add(int64_t channels) {
  Case test;
  broadcast(&test, channels);
  add_addition(&test);
  return test;
}

Case mul(int64_t channels) {
  Case test;
  broadcast(&test, channels);
  test.instruction.attributes["multiplier"] = draw(1 << 30, INT32_MAX);
  test.instruction.attributes["shift"] = draw(-12, 1);
  return test;
}

Case mean(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  add_output_stage(&test);
  auto &attributes = test.instruction.attributes;
  attributes["input_zero_point"] = draw(-128, 127);
  attributes["multiplier"] = draw(1 << 30, INT32_MAX);
  attributes["shift"] = draw(-12, 0);
  std::vector<int64_t> axes;
  test.output = test.inputs[0];
  for (int64_t axis = 1; axis < 4; ++axis) {
    if (draw(0, 1) == 0) continue;
    axes.push_back(axis);
    test.output[static_cast<size_t>(axis)] = 1;
  }
  attributes["axes"] = axes;
  return test;
}

Case rescale(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  add_output_stage(&test);
  test.instruction.attributes["input_zero_point"] = draw(-128, 127);
  test.instruction.attributes["multiplier"] = draw(1 << 30, INT32_MAX);
  test.instruction.attributes["shift"] = draw(-5, 2);
  return test;
}

Case pad(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  std::vector<int64_t> paddings = {0, 0};
  for (size_t axis = 1; axis < 4; ++axis) {
    for (int side = 0; side < 2; ++side) {
      paddings.push_back(draw(0, 3));
      test.output[axis] += paddings.back();
    }
  }
  test.instruction.attributes["paddings"] = paddings;
  test.instruction.attributes["value"] = draw(-128, 127);
  return test;
}

Case concatenation(int64_t channels) {
  Case test;
  const auto axis = static_cast<size_t>(draw(1, 3));
  const Shape image = image_of(channels);
  test.output = image;
  test.output[axis] = 0;
  for (int64_t i = draw(1, 4); i > 0; --i) {
    test.inputs.push_back(image);
    test.inputs.back()[axis] = draw(1, 20);
    test.output[axis] += test.inputs.back()[axis];
  }
  test.instruction.attributes["axis"] = static_cast<int64_t>(axis);
  return test;
}

Case reshape(int64_t channels) {
  Case test;
  const Shape image = image_of(channels);
  test.inputs = {image};
  test.output = {image[0], volume(image) / image[0]};
  return test;
}

Case transpose(int64_t channels) {
  Case test;
  std::vector<int64_t> permutation = {0, 1, 2, 3};
  std::shuffle(permutation.begin() + 1, permutation.end(), generator);
  test.inputs = {image_of(channels)};
  for (const int64_t from : permutation) test.output.push_back(test.inputs[0][static_cast<size_t>(from)]);
  test.instruction.attributes["permutation"] = permutation;
  return test;
}

Case slice(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  std::vector<int64_t> begin = {0}, stride = {1};
  for (size_t axis = 1; axis < 4; ++axis) {
    const int64_t step = draw(1, 3), count = draw(1, (test.inputs[0][axis] + step - 1) / step);
    const int64_t first = draw(0, test.inputs[0][axis] - 1 - (count - 1) * step);
    const bool backwards = draw(0, 1) == 1;
    begin.push_back(backwards ? first + (count - 1) * step : first);
    stride.push_back(backwards ? -step : step);
    test.output[axis] = count;
  }
  test.instruction.attributes["begin"] = begin;
  test.instruction.attributes["stride"] = stride;
  return test;
}

Case gather(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  const auto axis = static_cast<size_t>(draw(1, 3));
  std::vector<int64_t> indices(static_cast<size_t>(draw(1, 20)));
  for (int64_t &index : indices) index = draw(0, test.inputs[0][axis] - 1);
  test.output[axis] = static_cast<int64_t>(indices.size());
  test.instruction.attributes["axis"] = static_cast<int64_t>(axis);
  test.instruction.attributes["indices"] = indices;
  return test;
}

Case take(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 1) == 1;
  const bool shared = draw(0, 1) == 1;  // one table for all samples
  const Shape image = image_of(channels);
  test.inputs = {{shared ? 1 : image[0], draw(1, 40), channels}, {image[0], image[1]}};
  test.numbers = 1;
  test.output = {image[0], image[1], channels};
  return test;
}

Case pairwise(int64_t channels) {
  Case test;
  const Shape image = image_of(channels);
  Shape other = image;
  for (size_t axis = 1; axis < 4; ++axis) other[axis] = draw(0, 1) ? 1 : image[axis];
  test.inputs = {image, other};
  test.output = image;
  return test;
}

Case reduce(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  test.output = {test.inputs[0][0]};
  const int64_t kept = draw(0, 7);
  std::vector<int64_t> axes;
  for (size_t axis = 1; axis < 4; ++axis) {
    if ((kept >> axis) & 1) {
      test.output.push_back(test.inputs[0][axis]);
    } else {
      axes.push_back(static_cast<int64_t>(axis));
    }
  }
  test.instruction.attributes["axes"] = axes;
  return test;
}

Case arg_max(int64_t channels) {
  Case test;
  test.inputs = {image_of(channels)};
  const int64_t axis = draw(1, 3);
  test.output = test.inputs[0];
  test.output.erase(test.output.begin() + axis);
  test.words_out = true;
  test.instruction.attributes["axis"] = axis;
  return test;
}

Case resize_bilinear(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 1) == 1;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  test.output[1] = draw(1, 20);
  test.output[2] = draw(1, 20);
  const int64_t mode = draw(0, 2);
  test.instruction.attributes["align_corners"] = static_cast<int64_t>(mode == 1);
  test.instruction.attributes["half_pixel_centers"] = static_cast<int64_t>(mode == 2);
  return test;
}

Case softmax(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 1) == 1;
  test.inputs = {{draw(1, 5), channels * draw(1, 20)}};
  test.output = test.inputs[0];
  test.instruction.attributes["multiplier"] = draw(1 << 30, INT32_MAX);
  test.instruction.attributes["shift"] = draw(18, 26);
  test.instruction.attributes["diff_min"] = -draw(1, 255);
  return test;
}

Case log_softmax(int64_t channels) {
  Case test = softmax(channels);
  test.instruction.attributes["reverse_multiplier"] = draw(1 << 30, INT32_MAX);
  test.instruction.attributes["reverse_shift"] = draw(-22, -14);
  return test;
}

Case l2_normalization(int64_t channels) {
  Case test;
  test.is_signed = true;
  test.inputs = {{draw(1, 5), draw(1, 4), channels}};
  test.output = test.inputs[0];
  test.instruction.attributes["input_zero_point"] = draw(-128, 127);
  return test;
}

Case transpose_conv2d(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 3) > 0;
  const int64_t outputs = draw(1, 20);
  const Shape image = {draw(1, 2), draw(1, 5), draw(1, 5), channels}, kernel = {draw(1, 4), draw(1, 4)};
  Shape size;
  auto &attributes = test.instruction.attributes;
  const std::vector<int64_t> stride = pair(draw(1, 3), draw(1, 3));
  std::vector<int64_t> crop;
  for (size_t axis = 0; axis < 2; ++axis) {
    const int64_t made = (image[axis + 1] - 1) * stride[axis] + kernel[axis];
    crop.push_back(draw(0, made - 1));
    size.push_back(draw(1, made - crop[axis] + stride[axis] - 1));
  }
  attributes["stride"] = stride;
  attributes["crop"] = crop;
  attributes["size"] = std::vector<int64_t>(size);
  add_linear(&test, {outputs, kernel[0], kernel[1], channels}, outputs);
  test.inputs = {image};
  test.output = {image[0], size[0], size[1], outputs};
  return test;
}

Case batch_matmul(int64_t channels) {
  Case test;
  test.is_signed = true;
  add_output_stage(&test);
  const int64_t batch = draw(1, 2), heads = draw(1, 3), rows = draw(1, 6), columns = draw(1, 6);
  const bool first = draw(0, 1) == 1, second = draw(0, 1) == 1;
  auto &attributes = test.instruction.attributes;
  attributes["transpose"] = pair(first, second);
  attributes["multiplier"] = draw(1 << 30, INT32_MAX);
  attributes["shift"] = draw(-16, -8);
  attributes["input_zero_points"] = pair(draw(-128, 127), draw(-128, 127));
  const Shape a = first ? Shape{channels, rows} : Shape{rows, channels};
  const Shape b = second ? Shape{columns, channels} : Shape{channels, columns};
  test.inputs = {{batch, heads, a[0], a[1]}, {batch, draw(0, 1) == 1 ? heads : 1, b[0], b[1]}};
  test.output = {batch, heads, rows, columns};
  return test;
}

Case lookup(int64_t channels) {
  Case test;
  test.is_signed = draw(0, 1) == 1;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  const int64_t low = test.is_signed ? -128 : 0;
  add_constant<int16_t>(&test, "table", DType::kInt16, {256}, low, low + 255);
  return test;
}

// Any table at all, steeper than curves are.
Case curve(int64_t channels) {
  Case test;
  test.words = test.words_out = true;
  test.inputs = {image_of(channels)};
  test.output = test.inputs[0];
  add_constant<int16_t>(&test, "table", DType::kInt16, {257}, INT16_MIN, INT16_MAX);
  auto &attributes = test.instruction.attributes;
  attributes["multiplier"] = draw(0, INT16_MAX);
  attributes["shift"] = draw(0, 31);
  attributes["segment_bits"] = draw(8, 9);
  attributes["centre"] = draw(0, 1 << 24);
  attributes["output_shift"] = draw(8, 10);
  return test;
}

void add_slopes(Case *test) {
  auto &attributes = test->instruction.attributes;
  for (const char *side : {"", "below_"}) {
    attributes[std::string(side) + "multiplier"] = draw(1 << 30, INT32_MAX);
    attributes[std::string(side) + "shift"] = draw(-12, 1);
  }
}

Case slopes(int64_t channels) {
  Case test = rescale(channels);
  add_slopes(&test);
  test.instruction.attributes["below_sign"] = draw(0, 1) == 0 ? int64_t{-1} : int64_t{1};
  return test;
}

Case prelu(int64_t channels) {
  Case test = mul(channels);
  add_slopes(&test);
  test.inputs[0] = test.output;
  return test;
}

// Products whose sum exceeds int32, and a bias that brings every accumulator back: legal, as the accumulators fit.
Case deep(const Shape &weight) {
  Case test;
  test.least_byte = 250;
  add_linear(&test, weight, 1);
  test.instruction.attributes["input_zero_point"] = int64_t{-128};
  add_constant<int8_t>(&test, "weight", DType::kInt8, weight, 127, 127);
  add_constant<int32_t>(&test, "bias", DType::kInt32, {1}, -1200000000, -1200000000);
  add_constant<int8_t>(&test, "shift", DType::kInt8, {1}, -24, -22);
  return test;
}

// The same operator on int16 codes: other zero points, bounds, factors, bias and weights.
Case on_words(Case test) {
  test.words = test.words_out = true;
  auto &attributes = test.instruction.attributes;
  for (const char *name : {"input_zero_point", "output_zero_point", "weight_zero_point", "value"}) {
    if (attributes.count(name) > 0) attributes[name] = int64_t{0};
  }
  if (attributes.count("input_zero_points") > 0) attributes["input_zero_points"] = pair(0, 0);
  if (attributes.count("left_shift") > 0) attributes["left_shift"] = int64_t{15};
  if (attributes.count("output_shift") > 0) attributes["output_shift"] = draw(-15, -11);
  if (attributes.count("shift") > 0) attributes["shift"] = draw(-20, -1);
  if (attributes.count("diff_min") > 0) attributes["shift"] = draw(-6, 0);  // exponentials that differ
  if (attributes.count("transpose") > 0) attributes["rounding"] = std::string("acc64");
  if (attributes.count("clamp_min") > 0) {
    attributes["clamp_min"] = draw(INT16_MIN, 0);
    attributes["clamp_max"] = draw(0, INT16_MAX);
  }
  auto &constants = test.instruction.constants;
  if (constants.count("weight") > 0) {
    const Shape weight = constants["weight"].shape, outputs = constants["bias"].shape;
    attributes["rounding"] = std::string("acc64");
    add_constant<int8_t>(&test, "weight", DType::kInt8, weight, INT8_MIN, INT8_MAX);
    add_constant<int64_t>(&test, "bias", DType::kInt64, outputs, -(int64_t{1} << 31), int64_t{1} << 31);
    add_constant<int8_t>(&test, "shift", DType::kInt8, outputs, -20, -4);
  }
  return test;
}

// int16 codes to bytes or back.
Case between_widths(Case test) {
  test.words_out = draw(0, 1) == 1;
  test.words = !test.words_out;
  auto &attributes = test.instruction.attributes;
  const int64_t low = test.is_signed ? -128 : 0;
  attributes["input_zero_point"] = test.words ? 0 : low + draw(0, 255);
  attributes["output_zero_point"] = test.words_out ? 0 : low + draw(0, 255);
  attributes["clamp_min"] = test.words_out ? draw(INT16_MIN, 0) : low + draw(0, 100);
  attributes["clamp_max"] = test.words_out ? draw(0, INT16_MAX) : low + draw(100, 255);
  attributes["shift"] = test.words ? draw(-20, -4) : draw(-3, 9);
  return test;
}

// The same operator on weights of 4 bits.
Case on_nibbles(Case test) {
  test.is_signed = true;
  auto &attributes = test.instruction.attributes;
  attributes["weight_zero_point"] = int64_t{0};
  attributes["input_zero_point"] = draw(-128, 127);
  attributes["output_zero_point"] = draw(-128, 127);
  attributes["clamp_min"] = draw(-128, 0);
  attributes["clamp_max"] = draw(0, 127);
  add_constant<int8_t>(&test, "weight", DType::kInt8, Shape(test.instruction.constants["weight"].shape), -8, 7);
  return test;
}

// Every weight and every code at its end, past what 32 bits hold.
Case deep_words(Case test, int64_t outputs) {
  test.words = test.words_out = true;
  test.is_signed = true;
  auto &attributes = test.instruction.attributes;
  attributes["input_zero_point"] = attributes["output_zero_point"] = attributes["weight_zero_point"] = int64_t{0};
  attributes["clamp_min"] = int64_t{INT16_MIN};
  attributes["clamp_max"] = int64_t{INT16_MAX};
  attributes["rounding"] = std::string("acc64");
  test.least_byte = 128;  // each word is -32640 at most
  const Shape weight = test.instruction.constants["weight"].shape;
  add_constant<int8_t>(&test, "weight", DType::kInt8, weight, INT8_MIN, INT8_MIN);
  add_constant<int64_t>(&test, "bias", DType::kInt64, {outputs}, -(int64_t{1} << 40), int64_t{1} << 40);
  add_constant<int8_t>(&test, "shift", DType::kInt8, {outputs}, -31, -24);
  return test;
}

constexpr int64_t kDeep = 70000;

Case deep_conv2d() {
  Case test = deep({1, 1, 1, kDeep});
  auto &attributes = test.instruction.attributes;
  attributes["stride"] = attributes["dilation"] = pair(1, 1);
  attributes["padding"] = std::vector<int64_t>(4);
  attributes["groups"] = int64_t{1};
  test.inputs = {{1, 1, 2, kDeep}};
  test.output = {1, 1, 2, 1};
  return test;
}

// Great inputs under one weight throughout.
Case of_one_weight(Case test, int64_t weight, int64_t least_shift, int64_t greatest_shift) {
  const Shape shape = test.instruction.constants["weight"].shape;
  add_constant<int8_t>(&test, "weight", DType::kInt8, shape, weight, weight);
  add_constant<int8_t>(&test, "shift", DType::kInt8, {shape[0]}, least_shift, greatest_shift);
  test.least_byte = 250;
  return test;
}

Case deep_windows(int64_t depth, int64_t weight) {
  return of_one_weight(square_conv2d({1, 8, 8, depth}, 64, 3, 1), weight, -22, -20);
}

// So many products of the greatest numbers that sums of their pairs wrap round 32 bits, and those of products do not.
Case deep_pixels_of(int64_t weight) {
  return of_one_weight(square_conv2d({1, 2, 5, 30000}, 96, 1, 1), weight, -30, -22);
}

Case deep_fully_connected() {
  Case test = deep({1, kDeep});
  test.inputs = {{2, kDeep}};
  test.output = {2, 1};
  return test;
}

const std::vector<std::pair<std::string, std::function<Case(int64_t)>>> kMakers = {
    {"add", add},
    {"arg_max", arg_max},
    {"average_pool2d", pool2d},
    {"batch_matmul", batch_matmul},
    {"concatenation", concatenation},
    {"conv2d", conv2d},
    {"conv2d", shifted_conv2d},
    {"conv2d", wide_conv2d},
    {"conv2d", long_conv2d},
    {"conv2d", deep_pixels},
    {"conv2d", broad_conv2d},
    {"conv2d", plain_windows},
    {"depthwise_conv2d", depthwise_conv2d},
    {"depthwise_conv2d", broad_depthwise_conv2d},
    {"depthwise_conv2d", depthwise_stride2},
    {"depthwise_conv2d", depthwise_rows},
    {"depthwise_conv2d", plain_depthwise},
    {"fully_connected", fully_connected},
    {"gather", gather},
    {"max_pool2d", pool2d},
    {"maximum", pairwise},
    {"mean", mean},
    {"minimum", pairwise},
    {"mul", mul},
    {"pad", pad},
    {"reduce_max", reduce},
    {"reduce_min", reduce},
    {"leaky_relu", slopes},
    {"rescale", rescale},
    {"reshape", reshape},
    {"resize_bilinear", resize_bilinear},
    {"slice", slice},
    {"softmax", softmax},
    {"sub", add},
    {"sum", mean},
    {"take", take},
    {"transpose", transpose},
    {"transpose_conv2d", transpose_conv2d},
};

// --- running ---

// An activation in memory of its own, so that a read or write outside is seen. The output stands between fences.
Tensor tensor_of(const Shape &shape, bool is_signed, bool is_output, bool words = false) {
  const int64_t width = words ? 2 : 1;
  Tensor tensor = {{}, false, 0, volume(shape) / shape[0] * width, Buffer()};
  const auto size = static_cast<size_t>(volume(shape) * width);
  tensor.codes = Buffer(size + (is_output ? 2 * kFence : 0));
  tensor.view.data = tensor.codes.data() + (is_output ? kFence : 0);
  tensor.view.offset = is_signed && !words ? 128 : 0;
  tensor.view.width = static_cast<int32_t>(width);
  tensor.view.rank = static_cast<int32_t>(shape.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) tensor.view.shape[axis] = static_cast<int32_t>(shape[axis]);
  if (is_output) std::memset(tensor.codes.data(), kMark, tensor.codes.size());
  return tensor;
}

// Prepares a layer as the engine does; what it packs goes into `packed`.
void prepare(Layer *layer, const std::string &level, Buffer *packed) {
  unfloat::choose_kernel(*layer, unfloat::choose_level(level));
  *packed = Buffer(unfloat::packed_bytes(*layer));
  unfloat::pack_layer(*layer, packed->data());
}

// Sets every tensor's batch; to 1 where none are given.
void set_batch(std::vector<Tensor> *tensors, const std::vector<int32_t> &batches) {
  for (size_t i = 0; i < tensors->size(); ++i) (*tensors)[i].view.shape[0] = batches.empty() ? 1 : batches[i];
}

// Runs a layer as the engine does: scratch is measured at a batch of one. Returns the fenced output.
std::vector<uint8_t> run(Layer *layer, int threads, std::vector<Tensor> *tensors, const std::vector<int32_t> &batches) {
  const uf_kernel *kernel = layer->kernel;
  set_batch(tensors, {});
  const size_t scratch = kernel->scratch_size ? kernel->scratch_size(&layer->node) : 0;
  const size_t stride = (scratch + UF_SLACK + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
  const Buffer memory(stride * static_cast<size_t>(threads));
  layer->node.scratch = memory.data();
  layer->node.scratch_stride = stride;
  set_batch(tensors, batches);
  const uf_tensor *output = layer->node.output;
  const auto size = static_cast<size_t>(uf_size(output) * output->width);
  std::memset(output->data, kMark, size);
  for (int thread = 0; thread < threads; ++thread) kernel->run(&layer->node, thread, threads);
  const uint8_t *begin = output->data - kFence;
  return {begin, begin + size + 2 * kFence};
}

bool fences_stand(const std::vector<uint8_t> &fenced) {
  for (size_t i = 0; i < kFence; ++i) {
    if (fenced[i] != kMark || fenced[fenced.size() - 1 - i] != kMark) return false;
  }
  return true;
}

int checks = 0, failures = 0;
std::set<std::string> kernels_that_ran;

const uf_kernel *const kKernels[] = {
#define UF_KERNEL(family, variant) &family##__##variant,
#include "all_kernels.inc"
#undef UF_KERNEL
};

// A kernel that this CPU can run and that no case reached is not known to be right. The scalar ones say what is.
void require_all_kernels() {
  std::set<uf_level> levels;
  for (const std::string &name : unfloat::available_levels()) levels.insert(unfloat::choose_level(name));
  for (const uf_kernel *kernel : kKernels) {
    if (kernel->level == UF_SCALAR || levels.count(kernel->level) == 0) continue;
    if (kernels_that_ran.count(kernel->name) > 0) continue;
    std::printf("%s: no case reached it\n", kernel->name);
    ++failures;
  }
}

void check(const std::string &op, Case test) {
  test.instruction.op = op;
  test.instruction.name = op;
  std::vector<Tensor> tensors;
  std::vector<int32_t> batches;
  for (const Shape &shape : test.inputs) {
    const bool numbers = tensors.size() == test.numbers;
    tensors.push_back(tensor_of(shape, test.is_signed, false, test.words || numbers));
    for (int64_t i = 0; i < volume(shape) * tensors.back().view.width; ++i) {
      const bool small = numbers && i % 2 == 1 && draw(0, 1) == 1;  // the upper byte of a number that names a row
      tensors.back().view.data[i] = static_cast<uint8_t>(small ? 0 : draw(test.least_byte, 255));
    }
    test.instruction.inputs.push_back(static_cast<int64_t>(tensors.size()) - 1);
  }
  tensors.push_back(tensor_of(test.output, test.is_signed, true, test.words_out));
  test.instruction.output = static_cast<int64_t>(tensors.size()) - 1;
  for (const Tensor &tensor : tensors) batches.push_back(tensor.view.shape[0]);

  std::vector<uint8_t> truth;
  const std::vector<std::string> levels = unfloat::available_levels();
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {  // scalar first: it says what is true
    set_batch(&tensors, {});
    const auto layer = unfloat::make_layer(test.instruction, tensors);
    Buffer packed;
    prepare(layer.get(), *level, &packed);
    kernels_that_ran.insert(layer->kernel->name);
    for (const int threads : {1, 2, 3, 7}) {
      const std::vector<uint8_t> found = run(layer.get(), threads, &tensors, batches);
      if (truth.empty()) truth = found;
      ++checks;
      if (found == truth && fences_stand(found)) continue;
      std::printf("%s, %d threads: %s\n", layer->kernel->name, threads, found == truth ? "wrote outside" : "differs");
      ++failures;
    }
  }
}

// Adds the output of a convolution, tensor 1, to tensor 2.
Instruction residual_add(Case *conv) {
  Case sum;
  sum.is_signed = conv->is_signed;
  add_output_stage(&sum);
  add_addition(&sum);
  Instruction &instruction = sum.instruction;
  instruction.op = instruction.name = "add";
  const int64_t low = sum.is_signed ? -128 : 0;
  instruction.attributes["input_zero_points"] = pair(low + draw(0, 255), low + draw(0, 255));
  instruction.inputs = draw(0, 1) == 0 ? pair(1, 2) : pair(2, 1);
  instruction.output = 3;
  conv->instruction.op = conv->instruction.name = "conv2d";
  conv->instruction.inputs = {0};
  conv->instruction.output = 1;
  return instruction;
}

// A convolution and the addition of its output to another tensor, in one go where the level has such a convolution.
void check_residual(Case first) {
  const Instruction addition = residual_add(&first);
  std::vector<Tensor> tensors;  // the convolution's two, and the addition's two
  std::vector<int32_t> batches;
  for (size_t i = 0; i < 4; ++i) {
    tensors.push_back(tensor_of(i == 0 ? first.inputs[0] : first.output, first.is_signed, i % 2 == 1));
    tensors[i].arena_offset = static_cast<int64_t>(i) << 32;  // apart
    batches.push_back(tensors[i].view.shape[0]);
    if (i % 2 == 1) continue;
    for (int64_t j = 0; j < uf_size(&tensors[i].view); ++j)
      tensors[i].view.data[j] = static_cast<uint8_t>(draw(0, 255));
  }
  std::vector<uint8_t> truth;
  const std::vector<std::string> levels = unfloat::available_levels();
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    set_batch(&tensors, {});
    const auto conv = unfloat::make_layer(first.instruction, tensors);
    const auto sum = unfloat::make_layer(addition, tensors);
    Buffer conv_packed, sum_packed;
    prepare(conv.get(), *level, &conv_packed);
    prepare(sum.get(), *level, &sum_packed);
    unfloat::join_layers(*conv, *sum);
    for (const int threads : {1, 2, 3, 7}) {
      std::memset(tensors[3].codes.data(), kMark, tensors[3].codes.size());
      const bool conv_stands = fences_stand(run(conv.get(), threads, &tensors, batches));
      if (sum->leader == nullptr) run(sum.get(), threads, &tensors, batches);
      const uint8_t *fenced = tensors[3].codes.data();
      const std::vector<uint8_t> found(fenced, fenced + tensors[3].codes.size());
      if (truth.empty()) truth = found;
      ++checks;
      if (found == truth && conv_stands && fences_stand(found)) continue;
      std::printf("%s and %s, %d threads: wrong\n", conv->kernel->name, sum->kernel->name, threads);
      ++failures;
    }
  }
}

}  // namespace

int main(int argc, char **argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 12;
  for (int round = 0; round < rounds; ++round) {
    for (const int64_t channels : {1, 3, 4, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130}) {
      for (const auto &[op, make] : kMakers) {
        check(op, make(channels));
        check(op, on_words(make(channels)));
      }
      check("l2_normalization", l2_normalization(channels));
      check("log_softmax", log_softmax(channels));
      check("hard_swish", lookup(channels));
      check("logistic", curve(channels));
      check("prelu", prelu(channels));
      check("rescale", between_widths(rescale(channels)));
      check("conv2d", on_nibbles(conv2d(channels)));
      check("conv2d", on_nibbles(wide_conv2d(channels)));
      check("fully_connected", on_nibbles(fully_connected(channels)));
      check_residual(conv2d(channels));
      check_residual(wide_conv2d(channels));
      check_residual(deep_pixels(channels));
      check_residual(plain_windows(channels));
    }
  }
  check("conv2d", deep_conv2d());
  check("conv2d", deep_windows(112, INT8_MIN));  // the greatest sums that Winograd's form takes, 26 bits
  check("conv2d", deep_pixels_of(INT8_MIN));
  check("conv2d", deep_pixels_of(INT8_MAX));
  check("conv2d", deep_windows(1024, 14));
  check("conv2d", deep_windows(1024, 15));  // and some beyond
  check("conv2d", deep_windows(1024, INT8_MIN));
  check("fully_connected", deep_fully_connected());
  check("conv2d", deep_words(deep_conv2d(), 1));
  check("fully_connected", deep_words(deep_fully_connected(), 1));
  require_all_kernels();
  std::printf("levels");
  for (const std::string &level : unfloat::available_levels()) std::printf(" %s", level.c_str());
#ifdef UF_EMULATED
  if (!emulated_has_ifma()) std::printf(" without IFMA");
#endif
  std::printf(": %d checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
