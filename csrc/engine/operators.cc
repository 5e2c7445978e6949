// What each operator's instruction must hold, and how it becomes a node's parameters. The only engine file that names
// operators; the meaning of every number is in kernel.h.

#include <algorithm>
#include <stdexcept>

#include "loader.h"

namespace unfloat {
namespace {

// --- linear ---

void conv2d(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const Shape &weight = loader.constant("weight").shape;
  loader.require(weight.size() == 4, "its weight must have 4 dimensions");
  const auto kernel_h = static_cast<int32_t>(weight[1]), kernel_w = static_cast<int32_t>(weight[2]);
  loader.params().linear.window = loader.window(kernel_h, kernel_w, true);
  const int32_t inputs = loader.input().shape[3], outputs = loader.output().shape[3];
  const int32_t groups = loader.integer("groups", 1, inputs);
  loader.require(inputs % groups == 0 && outputs % groups == 0, "its groups do not divide the channels");
  loader.params().linear.groups = groups;
  loader.load_linear({outputs, kernel_h, kernel_w, inputs / groups}, outputs);
}

void depthwise_conv2d(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const Shape &weight = loader.constant("weight").shape;
  loader.require(weight.size() == 3, "its weight must have 3 dimensions");
  const auto kernel_h = static_cast<int32_t>(weight[0]), kernel_w = static_cast<int32_t>(weight[1]);
  loader.params().linear.window = loader.window(kernel_h, kernel_w, true);
  const int32_t outputs = loader.output().shape[3];
  loader.require(outputs % loader.input().shape[3] == 0, "its output channels must be a multiple of the input's");
  loader.load_linear({kernel_h, kernel_w, outputs}, outputs);
}

void fully_connected(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require(input.rank >= 2 && output.rank >= 2, "needs tensors of at least 2 dimensions");
  const int32_t depth = input.shape[input.rank - 1], outputs = output.shape[output.rank - 1];
  loader.require(uf_size(&input) / depth == uf_size(&output) / outputs, "its input and output differ in rows");
  loader.load_linear({outputs, depth}, outputs);
}

void transpose_conv2d(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const Shape &weight = loader.constant("weight").shape;
  loader.require(weight.size() == 4, "its weight must have 4 dimensions");
  const auto kernel_h = static_cast<int32_t>(weight[1]), kernel_w = static_cast<int32_t>(weight[2]);
  loader.params().linear.window = loader.transposed_window(kernel_h, kernel_w);
  const int32_t outputs = loader.output().shape[3];
  loader.load_linear({outputs, kernel_h, kernel_w, loader.input().shape[3]}, outputs);
}

// --- elementwise ---

void require_broadcast(const Loader &loader) {
  loader.require_inputs(2);
  const uf_tensor &output = loader.output();
  for (size_t i = 0; i < 2; ++i) {
    loader.require_rank(loader.input(i), output.rank);
    for (int axis = 0; axis < output.rank; ++axis) {
      const int32_t size = loader.input(i).shape[axis];
      loader.require(size == 1 || size == output.shape[axis], "its inputs do not broadcast to the output");
    }
  }
}

std::vector<int32_t> input_zero_points(const Loader &loader) {
  auto zero_points = loader.integers("input_zero_points", 2, INT16_MIN, INT16_MAX);
  for (size_t i = 0; i < 2; ++i) {
    const uf_tensor &input = loader.input(i);
    const int32_t most = input.width == 2 ? 0 : UINT8_MAX, found = zero_points[i] + input.offset;
    loader.require(0 <= found && found <= most, "a zero point of its inputs is no code, or not the 0 of int16 codes");
    zero_points[i] = found;
  }
  return zero_points;
}

void load_addition(Loader &loader, int32_t sign) {
  require_broadcast(loader);
  uf_add &add = loader.params().add;
  add.sign = sign;
  const bool words = loader.input(0).width == 2 || loader.input(1).width == 2;
  add.left_shift = loader.integer("left_shift", 0, words ? 15 : 22);  // 16 or 9 bits, lifted, stay inside 31
  const auto zero_points = input_zero_points(loader);
  const auto multipliers = loader.integers("input_multipliers", 2, 0, INT32_MAX);
  const auto shifts = loader.integers("input_shifts", 2, -31, 0);
  for (size_t i = 0; i < 2; ++i) {
    add.input_zero_point[i] = zero_points[i];
    add.input_multiplier[i] = multipliers[i];
    add.input_shift[i] = shifts[i];
  }
  add.multiplier = loader.multiplier("output_multiplier");
  add.shift = loader.shift("output_shift");
  add.output = loader.output_stage();
  loader.require(add.output.rounding != QMATH_ACC64, "its rounding must be 'double' or 'single'");
}

void add(Loader &loader) { load_addition(loader, 1); }

void sub(Loader &loader) { load_addition(loader, -1); }

void load_scale(Loader &loader) {
  uf_scale &scale = loader.params().scale;
  scale.multiplier = loader.multiplier("multiplier");
  scale.shift = loader.shift("shift");
  scale.output = loader.output_stage();
  loader.require(scale.output.rounding != QMATH_ACC64, "its rounding must be 'double' or 'single'");
}

void mul(Loader &loader) {
  require_broadcast(loader);
  load_scale(loader);
  const auto zero_points = input_zero_points(loader);
  for (size_t i = 0; i < 2; ++i) {
    loader.params().scale.input_zero_point[i] = zero_points[i];
  }
}

void rescale(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  loader.require(same_shape(loader.input(), loader.output()), "its input and output differ in shape");
  load_scale(loader);
  loader.params().scale.input_zero_point[0] = loader.zero_point("input_zero_point", loader.input());
}

void softmax(Loader &loader) {
  constexpr int32_t kMaxClasses = 4095;  // their sum in Q12.19 must fit
  loader.require_inputs(1);
  loader.require_activations();
  const uf_tensor &input = loader.input();
  loader.require(input.rank >= 2 && same_shape(input, loader.output()), "its input and output differ in shape");
  loader.require(input.shape[input.rank - 1] <= kMaxClasses, "its last axis must have at most 4095 entries");
  uf_softmax &softmax = loader.params().softmax;
  softmax.multiplier = loader.multiplier("multiplier");
  const bool wide = input.width == 2;
  loader.require(input.width == loader.output().width, "its input and output must have codes of one width");
  softmax.shift = wide ? loader.integer("shift", -31, 15) : loader.integer("shift", 0, 31);
  softmax.diff_min = loader.integer("diff_min", INT32_MIN, 0);
}

// --- functions of one value ---

void load_elementwise(Loader &loader, const char *family) {
  loader.require_inputs(1);
  loader.require_activations();
  loader.require(same_shape(loader.input(), loader.output()), "its input and output differ in shape");
  loader.require(loader.input().width == loader.output().width, "its input and output differ in width");
  loader.use_kernels_of(family);
}

void lookup(Loader &loader) {
  load_elementwise(loader, "lookup");
  loader.load_table();
}

void curve(Loader &loader) {
  lookup(loader);
  if (loader.input().width == 1) return;
  qmath_curve &curve = loader.params().lookup.curve;
  curve.multiplier = loader.integer("multiplier", 0, INT16_MAX);
  curve.shift = loader.integer("shift", 0, 31);
  curve.segment_bits = loader.integer("segment_bits", 8, 9);
  curve.centre = loader.integer("centre", 0, 1 << 24);
  curve.output_shift = loader.integer("output_shift", 8, 10);
}

void load_slopes(Loader &loader) {
  uf_slopes &slopes = loader.params().slopes;
  slopes.multiplier = loader.multiplier("multiplier");
  slopes.shift = loader.shift("shift");
  slopes.below_multiplier = loader.multiplier("below_multiplier");
  slopes.below_shift = loader.shift("below_shift");
  slopes.output = loader.output_stage();
  loader.require(slopes.output.rounding != QMATH_ACC64, "its rounding must be 'double' or 'single'");
}

void slopes(Loader &loader) {
  load_elementwise(loader, "slopes");
  load_slopes(loader);
  loader.params().slopes.below_sign = loader.integer("below_sign", -1, 1);
  loader.params().slopes.input_zero_point[0] = loader.zero_point("input_zero_point", loader.input());
}

void prelu(Loader &loader) {
  require_broadcast(loader);
  loader.require(same_shape(loader.input(0), loader.output()), "its input and output differ in shape");
  load_slopes(loader);
  const auto zero_points = input_zero_points(loader);
  for (size_t i = 0; i < 2; ++i) loader.params().slopes.input_zero_point[i] = zero_points[i];
}

void log_softmax(Loader &loader) {
  softmax(loader);
  uf_softmax &softmax = loader.params().softmax;
  softmax.reverse_multiplier = loader.multiplier("reverse_multiplier");
  softmax.reverse_shift = loader.integer("reverse_shift", -31, 0);
}

void l2_normalization(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const uf_tensor &input = loader.input();
  loader.require(input.rank >= 2 && same_shape(input, loader.output()), "its input and output differ in shape");
  loader.require(input.shape[input.rank - 1] <= INT32_MAX / (UINT8_MAX * UINT8_MAX),
                 "so many squares do not fit 32 bits");
  loader.params().scale.input_zero_point[0] = loader.zero_point("input_zero_point", input);
}

// --- matrix products ---

void batch_matmul(Loader &loader) {
  loader.require_inputs(2);
  loader.require_same_storage();
  const uf_tensor &output = loader.output();
  const int rank = output.rank;
  loader.require(rank >= 3, "needs tensors of at least 3 dimensions");
  const auto transpose = loader.integers("transpose", 2, 0, 1);
  uf_scale &scale = loader.params().scale;
  scale.axes = 0;
  int32_t depth[2] = {0, 0};
  for (size_t i = 0; i < 2; ++i) {
    const uf_tensor &input = loader.input(i);
    loader.require_rank(input, rank);
    const int kept = rank - 2 + static_cast<int>(i), summed = rank - 1 - static_cast<int>(i);
    const int swap = transpose[i] ? 1 : 0;
    depth[i] = input.shape[swap ? kept : summed];
    loader.require(input.shape[swap ? summed : kept] == output.shape[kept],
                   "its factors do not give the output's shape");
    for (int axis = 0; axis < rank - 2; ++axis) {
      const int32_t size = input.shape[axis];
      loader.require(size == 1 || size == output.shape[axis], "its factors do not broadcast to the output");
    }
    scale.axes |= static_cast<uint32_t>(swap) << i;
  }
  loader.require(depth[0] == depth[1], "its factors differ in depth");
  scale.output = loader.output_stage();
  const bool wide = output.width == 2;
  loader.require((scale.output.rounding == QMATH_ACC64) == wide,
                 "its rounding must be 'acc64' on int16 codes, and there alone");
  scale.multiplier = loader.multiplier("multiplier");
  if (wide) scale.multiplier = qmath_reduced_multiplier(scale.multiplier);
  scale.shift = wide ? loader.integer("shift", -31, 7) : loader.shift("shift");
  const int64_t most = wide ? (int64_t{1} << 47) / (int64_t{1} << 30) - 1 : INT32_MAX / (UINT8_MAX * UINT8_MAX);
  loader.require(depth[0] <= most, "so deep a product does not fit its accumulator");
  const auto zero_points = input_zero_points(loader);
  for (size_t i = 0; i < 2; ++i) scale.input_zero_point[i] = zero_points[i];
}

// --- what remembers ---

void svdf(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  loader.require_rank(loader.input(), 2);
  loader.require_rank(loader.output(), 2);
  uf_svdf &svdf = loader.params().svdf;
  const int32_t inputs = loader.input().shape[1], outputs = loader.output().shape[1];
  svdf.rank = loader.integer("rank", 1, INT32_MAX / outputs);
  const int32_t filters = outputs * svdf.rank;
  const Shape &time = loader.constant("time").shape;
  loader.require(time.size() == 2 && time[0] == filters && 1 <= time[1] && time[1] <= INT32_MAX / filters,
                 "its weights in time must have a row for each of " + std::to_string(filters) + " filters");
  svdf.memory = static_cast<int32_t>(time[1]);
  svdf.weight = loader.array<int8_t>("weight", {filters, inputs});
  svdf.time = loader.words("time", time);
  svdf.bias = loader.array<int32_t>("bias", {outputs});
  loader.remember(true);
  svdf.input_zero_point = loader.zero_point("input_zero_point", loader.input());
  svdf.feature_multiplier = loader.multiplier("feature_multiplier");
  svdf.feature_shift = loader.shift("feature_shift");
  svdf.multiplier = loader.multiplier("multiplier");
  svdf.shift = loader.shift("shift");
  const int32_t half = 1 << (loader.integer("state_bits", 8, 16) - 1);
  svdf.state_min = -half;
  svdf.state_max = half - 1;
  svdf.output = loader.output_stage();
  loader.require(svdf.output.rounding != QMATH_ACC64, "its rounding must be 'double' or 'single'");
}

void lstm(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require_rank(input, 3);
  loader.require_rank(output, 3);
  loader.require(input.shape[1] == output.shape[1], "its input and output differ in rows");
  uf_lstm &lstm = loader.params().lstm;
  constexpr int32_t kGates = 4;
  const int32_t inputs = input.shape[2], units = output.shape[2];
  loader.require(units <= INT32_MAX / kGates / std::max(units, inputs), "it has too many weights");
  lstm.weight = loader.array<int8_t>("weight", {kGates, units, inputs});
  lstm.recurrent = loader.array<int8_t>("recurrent", {kGates, units, units});
  lstm.bias = loader.array<int32_t>("bias", {kGates, units});
  lstm.multiplier = loader.multipliers(2 * kGates);
  lstm.shift = loader.shifts(2 * kGates);
  lstm.logistic = loader.array<int16_t>("table", {2, QMATH_SEGMENTS + 2});
  lstm.tanh = lstm.logistic + QMATH_SEGMENTS + 2;
  lstm.carried = loader.integer("carried", 0, 1) == 1;
  loader.remember(lstm.carried);
  lstm.input_zero_point = loader.zero_point("input_zero_point", input);
  lstm.cell_multiplier = loader.multiplier("cell_multiplier");
  lstm.cell_shift = loader.integer("cell_shift", -31, 0);
  lstm.output_multiplier = loader.multiplier("output_multiplier");
  lstm.output_shift = loader.integer("output_shift", -31, 0);
  const int32_t clip = loader.integer("cell_clip", 0, INT16_MAX);
  lstm.cell_min = clip == 0 ? INT16_MIN : -clip;
  lstm.cell_max = clip == 0 ? INT16_MAX : clip;
  lstm.curve = {loader.integer("curve_multiplier", 0, INT16_MAX), loader.integer("curve_shift", 0, 31), 8, 0, 8};
  lstm.output = loader.output_stage();
  loader.require(lstm.output.rounding != QMATH_ACC64, "its rounding must be 'double' or 'single'");
}

// --- pooling, mean ---

// How many bytes or int16 codes can be summed in 32 bits.
int64_t most_cells(const Loader &loader) {
  return loader.input().width == 2 ? int64_t{INT32_MIN} / INT16_MIN : INT32_MAX / UINT8_MAX;
}

// Pooling needs a cell of the image under every window: no padding as wide as the kernel.
void pool2d(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  loader.require_same_storage();
  const auto kernel = loader.integers("kernel", 2, 1, INT32_MAX);
  loader.params().window = loader.window(kernel[0], kernel[1], false);
  const int64_t cells = int64_t{kernel[0]} * kernel[1];
  loader.require(loader.input().width == 1 || cells <= most_cells(loader),
                 "so large a window's sum does not fit 32 bits");
  loader.require(loader.input().shape[3] == loader.output().shape[3], "its input and output differ in channels");
  const auto padding = loader.integers("padding", 4, 0, INT32_MAX);
  for (size_t side = 0; side < 4; ++side) {
    loader.require(padding[side] < kernel[side % 2], "its padding must be smaller than its kernel");
  }
}

// The bits of the axes that an operator reduces; the output holds what is left.
uint32_t reduced_axes(const Loader &loader) {
  uint32_t axes = 0;
  int64_t cells = 1;
  for (const int64_t axis : loader.integers("axes")) {
    loader.require(0 < axis && axis < loader.input().rank, "a reduced axis lies outside [1, rank)");
    loader.require(!(axes & (1u << axis)), "a reduced axis occurs twice");
    axes |= 1u << axis;
    cells *= loader.input().shape[axis];
  }
  loader.require(uf_size(&loader.input()) == uf_size(&loader.output()) * cells, "its output has the wrong size");
  return axes;
}

void mean(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  load_scale(loader);
  uf_scale &mean = loader.params().scale;
  mean.input_zero_point[0] = loader.zero_point("input_zero_point", loader.input());
  mean.axes = reduced_axes(loader);
  loader.require(uf_size(&loader.input()) / uf_size(&loader.output()) <= most_cells(loader),
                 "a sum of so many cells does not fit 32 bits");
}

// --- bytes that only move ---

void require_move(const Loader &loader) {
  loader.require_activations();
  loader.require_same_storage();
}

void pad(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require(input.rank == output.rank && input.rank >= 2, "its input and output differ in rank");
  const auto paddings = loader.integers("paddings", 2 * static_cast<size_t>(input.rank), 0, INT32_MAX);
  for (int axis = 0; axis < input.rank; ++axis) {
    const int32_t before = paddings[2 * static_cast<size_t>(axis)], after = paddings[2 * static_cast<size_t>(axis) + 1];
    loader.require(int64_t{input.shape[axis]} + before + after == output.shape[axis], "its paddings do not fit");
    loader.params().move.before[axis] = before;
  }
  loader.params().move.value = loader.code("value", input);
}

void concatenation(Loader &loader) {
  require_move(loader);
  const uf_tensor &output = loader.output();
  const int32_t axis = loader.integer("axis", 1, output.rank - 1);
  int64_t joined = 0;
  for (size_t i = 0; i < loader.input_count(); ++i) {
    uf_tensor expected = output;
    expected.shape[axis] = loader.input(i).shape[axis];
    loader.require(same_shape(loader.input(i), expected), "its inputs differ away from the axis");
    joined += expected.shape[axis];
  }
  loader.require(joined == output.shape[axis], "its inputs do not add up to the output");
  loader.params().move.axis = axis;
}

void reshape(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  loader.require(uf_size(&loader.input()) == uf_size(&loader.output()), "its input and output differ in size");
}

void transpose(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require_rank(output, input.rank);
  const auto permutation = loader.integers("permutation", static_cast<size_t>(input.rank), 0, input.rank - 1);
  loader.require(permutation[0] == 0, "the batch must stay the first axis");
  uint32_t seen = 0;
  for (int axis = 0; axis < input.rank; ++axis) {
    const int32_t from = permutation[static_cast<size_t>(axis)];
    seen |= 1u << from;
    loader.require(input.shape[from] == output.shape[axis], "its permutation does not give the output's shape");
    loader.params().move.permutation[axis] = from;
  }
  loader.require(seen == (1u << input.rank) - 1, "its permutation must name every axis once");
}

// Requires one input that differs from the output in `axis` alone.
void require_same_beside(const Loader &loader, int32_t axis) {
  uf_tensor expected = loader.output();
  loader.require_rank(loader.input(), expected.rank);
  expected.shape[axis] = loader.input().shape[axis];
  loader.require(same_shape(loader.input(), expected), "its input and output differ away from the axis");
}

void slice(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require_rank(output, input.rank);
  const auto rank = static_cast<size_t>(input.rank);
  const auto begin = loader.integers("begin", rank, 0, INT32_MAX);
  const auto stride = loader.integers("stride", rank, -INT32_MAX, INT32_MAX);
  loader.require(begin[0] == 0 && stride[0] == 1, "it must take every sample");
  for (size_t axis = 0; axis < rank; ++axis) {
    const int64_t last = begin[axis] + int64_t{output.shape[axis] - 1} * stride[axis];
    loader.require(stride[axis] != 0 && begin[axis] < input.shape[axis] && 0 <= last && last < input.shape[axis],
                   "its cells lie outside the input");
    loader.params().move.before[axis] = begin[axis];
    loader.params().move.stride[axis] = stride[axis];
  }
}

void gather(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  const int32_t axis = loader.integer("axis", 1, loader.output().rank - 1);
  require_same_beside(loader, axis);
  loader.params().move.axis = axis;
  loader.params().move.indices = loader.indices("indices", loader.output().shape[axis], loader.input().shape[axis]);
}

void take(Loader &loader) {
  loader.require_inputs(2);
  const uf_tensor &table = loader.input(0), &numbers = loader.input(1), &output = loader.output();
  loader.require(loader.is_activation(1) && numbers.width == 2, "its numbers must be int16 activations");
  loader.require(table.offset == output.offset && table.width == output.width, "its rows must be of the output's type");
  loader.require(table.rank >= 2 && table.shape[0] == 1, "its table must hold rows, for one sample or for each");
  loader.require_rank(output, numbers.rank + table.rank - 2);
  for (int axis = 0; axis < output.rank; ++axis) {
    const int of_row = axis - numbers.rank + 2;
    const int32_t size = axis < numbers.rank ? numbers.shape[axis] : table.shape[of_row];
    loader.require(output.shape[axis] == size, "its output has the wrong shape");
  }
}

// --- codes that compare ---

void pairwise(Loader &loader) {
  require_broadcast(loader);
  loader.require_same_storage();
}

void reduce(Loader &loader) {
  loader.require_inputs(1);
  require_move(loader);
  loader.params().move.axes = reduced_axes(loader);
}

void arg_max(Loader &loader) {
  loader.require_inputs(1);
  loader.require_activations();
  const uf_tensor &input = loader.input(), &output = loader.output();
  const int32_t axis = loader.integer("axis", 1, input.rank - 1), size = input.shape[axis];
  loader.require(output.width == 2 && size <= INT16_MAX + 1, "its output must be int16 codes that hold every index");
  loader.require_rank(output, input.rank - 1);
  for (int i = 0; i < output.rank; ++i) {
    loader.require(output.shape[i] == input.shape[i < axis ? i : i + 1], "its output has the wrong shape");
  }
  loader.params().move.axis = axis;
}

// --- images of another size ---

void resize_bilinear(Loader &loader) {
  constexpr int32_t kMostCells = 1 << 16;
  loader.require_inputs(1);
  require_move(loader);
  const uf_tensor &input = loader.input(), &output = loader.output();
  loader.require_rank(input, 4);
  loader.require_rank(output, 4);
  loader.require(input.shape[3] == output.shape[3], "its input and output differ in channels");
  for (int axis = 1; axis < 3; ++axis) {
    loader.require(input.shape[axis] <= kMostCells && output.shape[axis] <= kMostCells,
                   "its images have more than 65536 rows or columns");
  }
  const bool aligned = loader.integer("align_corners", 0, 1) == 1;
  const bool centred = loader.integer("half_pixel_centers", 0, 1) == 1;
  loader.require(!aligned || !centred, "align_corners and half_pixel_centers exclude each other");
  uf_resize &resize = loader.params().resize;
  resize.rows = qmath_resize_axis(input.shape[1], output.shape[1], aligned, centred);
  resize.columns = qmath_resize_axis(input.shape[2], output.shape[2], aligned, centred);
}

struct Operator {
  const char *name;
  void (*load)(Loader &loader);
};

constexpr Operator kOperators[] = {
    {"abs", slopes},
    {"add", add},
    {"arg_max", arg_max},
    {"average_pool2d", pool2d},
    {"batch_matmul", batch_matmul},
    {"concatenation", concatenation},
    {"conv2d", conv2d},
    {"depthwise_conv2d", depthwise_conv2d},
    {"fully_connected", fully_connected},
    {"gather", gather},
    {"gelu", lookup},
    {"hard_swish", lookup},
    {"leaky_relu", slopes},
    {"l2_normalization", l2_normalization},
    {"log_softmax", log_softmax},
    {"logistic", curve},
    {"max_pool2d", pool2d},
    {"lstm", lstm},
    {"maximum", pairwise},
    {"mean", mean},
    {"minimum", pairwise},
    {"mul", mul},
    {"pad", pad},
    {"prelu", prelu},
    {"reduce_max", reduce},
    {"reduce_min", reduce},
    {"rescale", rescale},
    {"reshape", reshape},
    {"resize_bilinear", resize_bilinear},
    {"slice", slice},
    {"softmax", softmax},
    {"sub", sub},
    {"sum", mean},
    {"svdf", svdf},
    {"take", take},
    {"tanh", curve},
    {"transpose", transpose},
    {"transpose_conv2d", transpose_conv2d},
};

}  // namespace

void load_parameters(const std::string &op, Loader &loader) {
  for (const Operator &known : kOperators) {
    if (op == known.name) return known.load(loader);
  }
  loader.fail("this engine has no such operator");
}

}  // namespace unfloat
