// The module unfloat._native: the engine, the border in bulk, and qmath.h's functions over arrays for tests.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings_training.h"
#include "engine/border.h"
#include "engine/engine.h"
#include "engine/level.h"
#include "engine/thread_pool.h"
#include "peak.h"
#include "python_unlocked.h"
#include "rows.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace unfloat {
namespace {

using AnyArray = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using OutArray = nb::ndarray<nb::c_contig, nb::device::cpu>;
using StridedArray = nb::ndarray<nb::ro, nb::device::cpu>;
using StridedOut = nb::ndarray<nb::device::cpu>;
using Int32Array = nb::ndarray<const int32_t, nb::c_contig, nb::device::cpu>;
using Int32Out = nb::ndarray<int32_t, nb::c_contig, nb::device::cpu>;
using Int8Row = nb::ndarray<const int8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Int32Row = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Int32Table = nb::ndarray<int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Int16Table = nb::ndarray<int16_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using FloatArray = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using FloatOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

using TensorTuple = std::tuple<Shape, std::string, int64_t, std::optional<AnyArray>>;
using InstructionTuple = std::tuple<std::string, std::string, std::vector<int64_t>, int64_t,
                                    std::map<std::string, Attribute>, std::map<std::string, AnyArray>>;

// The message is put together only where it is needed.
template <typename... Parts>
void require(bool condition, const Parts &...parts) {
  if (condition) return;
  std::ostringstream message;
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

template <typename A>
DType dtype_of(const A &array) {
  if (array.dtype() == nb::dtype<int8_t>()) return DType::kInt8;
  if (array.dtype() == nb::dtype<uint8_t>()) return DType::kUint8;
  if (array.dtype() == nb::dtype<int16_t>()) return DType::kInt16;
  if (array.dtype() == nb::dtype<int32_t>()) return DType::kInt32;
  if (array.dtype() == nb::dtype<int64_t>()) return DType::kInt64;
  throw std::invalid_argument("arrays must be int8, uint8, int16, int32 or int64");
}

// Multiply-accumulates a second of so many threads, each for so many seconds; 0 where the level has none of its own.
double peak(const std::string &name, int threads, double seconds) {
  require(seconds > 0 && std::isfinite(seconds), "seconds must be positive and finite, found ", seconds);
  const uf_level level = choose_level(name);
  const int64_t macs = uf_peak_macs(level), rounds = 1 << 14;
  const PythonUnlocked unlocked;
  ThreadPool pool(threads);
  if (macs == 0) return 0;
  std::vector<double> rates(static_cast<size_t>(threads));
  auto measure = [&](int thread) {
    using Clock = std::chrono::steady_clock;
    double best = 0, spent = 0;
    do {
      const auto begin = Clock::now();
      uf_peak_run(level, rounds);
      const double took = std::chrono::duration<double>(Clock::now() - begin).count();
      best = std::max(best, static_cast<double>(macs * rounds) / took);
      spent += took;
    } while (spent < seconds);
    rates[static_cast<size_t>(thread)] = best;
  };
  pool.run([](void *context, int thread) { (*static_cast<decltype(measure) *>(context))(thread); }, &measure);
  return std::accumulate(rates.begin(), rates.end(), 0.0);
}

Array view_of(const AnyArray &array) {
  Shape shape;
  for (size_t axis = 0; axis < array.ndim(); ++axis) shape.push_back(static_cast<int64_t>(array.shape(axis)));
  return {array.data(), dtype_of(array), shape};
}

DType storage_of(const std::string &name) {
  if (name == "int8") return DType::kInt8;
  if (name == "uint8") return DType::kUint8;
  require(name == "int16", "codes must be int8, uint8 or int16, found ", name);
  return DType::kInt16;
}

// Of a port's codes, as the caller has them.
DType dtype_of(const Tensor &tensor) {
  return tensor.view.width == 2 ? DType::kInt16 : tensor.view.offset != 0 ? DType::kInt8 : DType::kUint8;
}

TensorSpec tensor_of(const TensorTuple &tuple) {
  const auto &[shape, storage, offset, data] = tuple;
  const DType dtype = storage_of(storage);
  if (!data) return {shape, dtype, offset, nullptr};
  const Array array = view_of(*data);
  require(array.shape == shape && array.dtype == dtype, "a constant's data must have its tensor's shape and type");
  return {shape, dtype, -1, static_cast<const uint8_t *>(array.data)};
}

Instruction instruction_of(const InstructionTuple &tuple) {
  const auto &[op, name, inputs, output, attributes, arrays] = tuple;
  std::map<std::string, Array> constants;
  for (const auto &[role, array] : arrays) constants.emplace(role, view_of(array));
  return {op, name, inputs, output, attributes, std::move(constants)};
}

void construct(Engine *self, const std::vector<TensorTuple> &tensors, const std::vector<InstructionTuple> &instructions,
               const std::vector<int64_t> &inputs, const std::vector<int64_t> &outputs, int64_t arena_bytes_per_sample,
               int threads, const std::string &level) {
  std::vector<TensorSpec> specs;
  for (const TensorTuple &tuple : tensors) specs.push_back(tensor_of(tuple));
  std::vector<Instruction> program;
  for (const InstructionTuple &tuple : instructions) program.push_back(instruction_of(tuple));
  const PythonUnlocked unlocked;
  new (self) Engine(specs, program, inputs, outputs, arena_bytes_per_sample, threads, level);
}

// The pointers of arrays that must match tensors in type and size.
template <typename A, typename Pointer>
std::vector<Pointer> pointers(const nb::list &arrays, size_t count, const char *what, int64_t batch,
                              const Tensor &(Engine::*tensor)(size_t) const, const Engine &engine) {
  require(nb::len(arrays) == count, "needs ", count, " ", what, " arrays, found ", nb::len(arrays));
  std::vector<Pointer> found;
  for (size_t i = 0; i < count; ++i) {
    A array;
    require(nb::try_cast<A>(arrays[i], array, false), what, " ", i, " must be a C-contiguous CPU array");
    const Tensor &expected = (engine.*tensor)(i);
    const int64_t size = batch * expected.sample_size / expected.view.width;
    require(dtype_of(array) == dtype_of(expected), what, " ", i, " has the wrong type");
    require(static_cast<int64_t>(array.size()) == size, what, " ", i, " must hold ", size, " codes, found ",
            array.size());
    found.push_back(array.data());
  }
  return found;
}

// The engine for one call; other Python threads go on while this one waits for it.
std::unique_ptr<Engine::Claim> claimed(Engine &engine, int64_t batch) {
  const PythonUnlocked unlocked;
  return std::make_unique<Engine::Claim>(engine, batch);
}

void run(Engine &engine, int64_t batch, const nb::list &inputs, const nb::list &outputs) {
  const auto claim = claimed(engine, batch);
  const auto from =
      pointers<AnyArray, const void *>(inputs, engine.input_count(), "input", batch, &Engine::input, engine);
  const auto to = pointers<OutArray, void *>(outputs, engine.output_count(), "output", batch, &Engine::output, engine);
  const PythonUnlocked unlocked;
  engine.run(from.data(), to.data());
}

// What an input's or output's codes mean, and which axis of the model's own array each of their axes is.
using BorderTuple = std::tuple<float, int32_t, int32_t, int32_t, std::vector<int>>;

// A port of the engine beside the caller's float array.
template <typename Real>
struct RealPort {
  Real *reals;
  StridedCodes codes;  // in the arena, in the array's layout
  rows_label label;    // of the arena's bytes
};

// The least and the greatest code that a storage type holds.
std::pair<int32_t, int32_t> code_range(DType dtype) {
  if (dtype == DType::kInt16) return {INT16_MIN, INT16_MAX};
  return dtype == DType::kInt8 ? std::pair(INT8_MIN, INT8_MAX) : std::pair(0, UINT8_MAX);
}

rows_label checked_label(DType dtype, float scale, int32_t zero_point, int32_t qmin, int32_t qmax) {
  require(dtype != DType::kInt32 && dtype != DType::kInt64, "codes must be int8, uint8 or int16");
  const auto [least, most] = code_range(dtype);
  require(least <= qmin && qmin <= zero_point && zero_point <= qmax && qmax <= most,
          "qmin <= zero_point <= qmax must hold, all of them codes");
  require(scale > 0 && std::isfinite(scale), "the scale must be positive and finite");
  return {scale, zero_point, qmin, qmax};
}

// What the numbers of an engine's input or output mean, and where they go: axis i of the tensor is axis permutation[i]
// of the caller's array. Checked once, when it is made.
struct Border {
  rows_label label;  // of the arena's bytes, which are codes plus the view's offset
  std::vector<int> permutation;
};

struct Borders {
  const Engine *engine;  // which they keep alive
  std::vector<Border> inputs, outputs;
};

Border border_of(const Tensor &tensor, const BorderTuple &tuple) {
  const auto &[scale, zero_point, qmin, qmax, permutation] = tuple;
  const int32_t offset = tensor.view.offset;
  rows_label label = checked_label(dtype_of(tensor), scale, zero_point, qmin, qmax);
  label.zero_point += offset, label.qmin += offset, label.qmax += offset;
  std::vector<int> sorted = permutation;
  std::sort(sorted.begin(), sorted.end());
  bool valid = sorted.size() == static_cast<size_t>(tensor.view.rank);
  for (size_t axis = 0; valid && axis < sorted.size(); ++axis) valid = sorted[axis] == static_cast<int>(axis);
  require(valid, "a border's permutation must name every axis once");
  return {label, permutation};
}

void construct_borders(Borders *self, const Engine &engine, const std::vector<BorderTuple> &inputs,
                       const std::vector<BorderTuple> &outputs) {
  require(inputs.size() == engine.input_count() && outputs.size() == engine.output_count(),
          "every input and every output needs a border");
  Borders borders = {&engine, {}, {}};
  for (size_t i = 0; i < inputs.size(); ++i) borders.inputs.push_back(border_of(engine.input(i), inputs[i]));
  for (size_t i = 0; i < outputs.size(); ++i) borders.outputs.push_back(border_of(engine.output(i), outputs[i]));
  new (self) Borders(std::move(borders));
}

template <typename Real>
RealPort<Real> real_port(const Tensor &tensor, const Border &border, nb::handle array, const char *what, size_t index) {
  const Shape shape(tensor.view.shape, tensor.view.shape + tensor.view.rank);
  const DType stored = tensor.view.width == 2 ? DType::kInt16 : DType::kUint8;
  const StridedCodes codes = permuted(tensor.view.data, stored, shape, border.permutation);
  nb::ndarray<Real, nb::c_contig, nb::device::cpu> reals;
  require(nb::try_cast(array, reals, false), what, " ", index, " must be a C-contiguous float32 CPU array");
  bool same = reals.ndim() == codes.shape.size();
  for (size_t axis = 0; same && axis < reals.ndim(); ++axis) {
    same = static_cast<int64_t>(reals.shape(axis)) == codes.shape[axis];
  }
  require(same, what, " ", index, " has the wrong shape");
  return {reals.data(), codes, border.label};
}

template <typename Real>
std::vector<RealPort<Real>> real_ports(const nb::list &arrays, const std::vector<Border> &borders, const char *what,
                                       const Tensor &(Engine::*tensor)(size_t) const, const Engine &engine) {
  require(nb::len(arrays) == borders.size(), "needs ", borders.size(), " ", what, " arrays");
  std::vector<RealPort<Real>> ports;
  for (size_t i = 0; i < borders.size(); ++i) {
    ports.push_back(real_port<Real>((engine.*tensor)(i), borders[i], arrays[i], what, i));
  }
  return ports;
}

// Under a Claim: the index of an input that holds a NaN, in which case the outputs and what the engine remembers stay
// as they were; -1 where there is none.
int call_claimed(Engine &engine, const nb::list &inputs, const nb::list &outputs, const Borders &borders) {
  require(borders.engine == &engine, "these borders are of another engine");
  const auto from = real_ports<const float>(inputs, borders.inputs, "input", &Engine::input, engine);
  const auto to = real_ports<float>(outputs, borders.outputs, "output", &Engine::output, engine);
  const PythonUnlocked unlocked;
  std::atomic<int> nan{-1};
  const bool ran = engine.run([&](int thread, int threads) {
    for (size_t i = 0; i < from.size(); ++i) {
      if (!quantize(from[i].reals, from[i].label, from[i].codes, thread, threads)) nan = static_cast<int>(i);
    }
    return nan < 0;
  });
  if (!ran) return nan;
  for (const auto &port : to) dequantize(port.codes, port.label, port.reals);
  return -1;
}

int call(Engine &engine, int64_t batch, const nb::list &inputs, const nb::list &outputs, const Borders &borders) {
  const auto claim = claimed(engine, batch);
  return call_claimed(engine, inputs, outputs, borders);
}

// Times layers until it dies, when the engine remembers what it did before; under a Claim.
class Profiling {
 public:
  explicit Profiling(Engine &engine) : engine_(engine), before_(engine.memory()) { engine_.profiling = true; }
  ~Profiling() {
    engine_.profiling = false;
    engine_.remember(before_);
  }
  Profiling(const Profiling &) = delete;
  Profiling &operator=(const Profiling &) = delete;

 private:
  Engine &engine_;
  const Engine::Memory before_;
};

using LayerTimes = std::vector<std::tuple<std::string, std::string, std::string, int64_t>>;

// What call() says, and how long each layer took.
std::pair<int, LayerTimes> profile(Engine &engine, int64_t batch, const nb::list &inputs, const nb::list &outputs,
                                   const Borders &borders) {
  const auto claim = claimed(engine, batch);
  const Profiling profiling(engine);
  const int nan = call_claimed(engine, inputs, outputs, borders);
  LayerTimes rows;
  for (const auto &layer : engine.layers()) {
    const std::string place = layer->leader == nullptr ? "" : " in " + layer->leader->name;
    rows.emplace_back(layer->name, layer->op, layer->kernel->name + place, layer->nanoseconds);
  }
  return {nan, rows};
}

std::vector<std::tuple<std::string, std::string>> kernels(const Engine &engine) {
  std::vector<std::tuple<std::string, std::string>> rows;
  for (const auto &layer : engine.layers()) rows.emplace_back(layer->name, layer->kernel->name);
  return rows;
}

// Of each layer: its name, its kernel, what the kernel packed, the scratch bytes of a thread, and the bytes that a
// sample's run leaves to the next.
std::vector<std::tuple<std::string, std::string, nb::bytes, size_t, size_t>> layers(const Engine &engine) {
  std::vector<std::tuple<std::string, std::string, nb::bytes, size_t, size_t>> rows;
  for (const auto &layer : engine.layers()) {
    const size_t size = packed_bytes(*layer);
    const nb::bytes packed(size > 0 ? static_cast<const char *>(layer->node.packed) : "", size);
    rows.emplace_back(layer->name, layer->kernel->name, packed, scratch_bytes(*layer), state_bytes(*layer));
  }
  return rows;
}

// --- the border, and the arithmetic over arrays ---

template <typename Codes>
StridedCodes strided(const Codes &codes) {
  auto *data = static_cast<uint8_t *>(const_cast<void *>(static_cast<const void *>(codes.data())));
  StridedCodes view = {data, dtype_of(codes), {}, {}};
  for (size_t axis = 0; axis < codes.ndim(); ++axis) {
    view.shape.push_back(static_cast<int64_t>(codes.shape(axis)));
    view.strides.push_back(codes.stride(axis) * static_cast<int64_t>(codes.itemsize()));
  }
  return view;
}

template <typename Reals, typename Codes>
void require_same_shape(const Reals &x, const Codes &codes) {
  bool same = x.ndim() == codes.ndim() && x.ndim() > 0;
  for (size_t axis = 0; same && axis < x.ndim(); ++axis) same = x.shape(axis) == codes.shape(axis);
  require(same, "codes and reals must be of one shape, of one dimension at least");
}

bool quantize_array(const FloatArray &x, float scale, int32_t zero_point, int32_t qmin, int32_t qmax,
                    const StridedOut &out) {
  const rows_label label = checked_label(dtype_of(out), scale, zero_point, qmin, qmax);
  require_same_shape(x, out);
  const StridedCodes codes = strided(out);
  const PythonUnlocked unlocked;
  return quantize(x.data(), label, codes);
}

void dequantize_array(const StridedArray &codes, float scale, int32_t zero_point, const FloatOut &out) {
  const DType dtype = dtype_of(codes);
  const auto [least, most] = code_range(dtype);
  const rows_label label = checked_label(dtype, scale, zero_point, least, most);
  require_same_shape(out, codes);
  const StridedCodes view = strided(codes);
  const PythonUnlocked unlocked;
  dequantize(view, label, out.data());
}

qmath_rounding rounding_of(const std::string &name) {
  require(name == "double" || name == "single", "the rounding must be 'double' or 'single', found '" + name + "'");
  return name == "single" ? QMATH_SINGLE : QMATH_DOUBLE;
}

void check_factors(const Int32Row &multiplier, const Int8Row &shift, size_t count) {
  require(multiplier.size() == count && shift.size() == count,
          "multiplier and shift must have one entry, or one for each channel");
  for (size_t i = 0; i < count; ++i) {
    require(-31 <= shift.data()[i] && shift.data()[i] <= 30, "shifts must lie in [-31, 30]");
    require(multiplier.data()[i] >= 0, "multipliers must not be negative");
  }
}

void finish(const Int32Table &accumulator, const Int32Row &bias, const Int32Row &multiplier, const Int8Row &shift,
            std::tuple<int32_t, int32_t, int32_t> codes_of, const std::string &rounding, const Int16Table &out) {
  const size_t rows = accumulator.shape(0), channels = accumulator.shape(1);
  check_factors(multiplier, shift, channels);
  require(bias.size() == channels, "the bias must have one entry for each channel");
  require(out.shape(0) == rows && out.shape(1) == channels, "the codes must have the accumulator's shape");
  const auto [zero_point, low, high] = codes_of;
  require(-128 <= low && low <= high && high <= 255 && -128 <= zero_point && zero_point <= 255,
          "zero point and clamp must be codes, in order");
  const rows_output output{bias.data(), multiplier.data(), shift.data(), zero_point, low, high, rounding_of(rounding)};
  const PythonUnlocked unlocked;
  rows_finish(accumulator.data(), static_cast<int64_t>(rows), static_cast<int64_t>(channels), &output, out.data());
}

void requantize(const Int32Table &accumulator, const Int32Row &multiplier, const Int8Row &shift,
                const std::string &rounding) {
  const auto rows = static_cast<int64_t>(accumulator.shape(0)), channels = static_cast<int64_t>(accumulator.shape(1));
  const size_t given = multiplier.size();
  check_factors(multiplier, shift, given == 1 ? 1 : accumulator.shape(1));
  const qmath_rounding mode = rounding_of(rounding);
  const PythonUnlocked unlocked;
  rows_requantize(accumulator.data(), rows, channels, multiplier.data(), shift.data(), given != 1, mode);
}

// out[i] = function(a[i]), for tests.
template <typename Function>
void map(const Int32Array &a, const Int32Out &out, Function function) {
  require(a.size() == out.size(), "arrays must be of one size");
  for (size_t i = 0; i < a.size(); ++i) out.data()[i] = function(a.data()[i]);
}

template <typename Function>
void map2(const Int32Array &a, const Int32Array &b, const Int32Out &out, Function function) {
  require(a.size() == out.size() && b.size() == out.size(), "arrays must be of one size");
  for (size_t i = 0; i < a.size(); ++i) out.data()[i] = function(a.data()[i], b.data()[i]);
}

void define_arithmetic(nb::module_ &m) {
  m.def("levels", &available_levels);
  m.def("peak", &peak, "level"_a, "threads"_a, "seconds"_a);
  m.def("quantize", &quantize_array, "x"_a.noconvert(), "scale"_a, "zero_point"_a, "qmin"_a, "qmax"_a,
        "out"_a.noconvert());
  m.def("dequantize", &dequantize_array, "codes"_a.noconvert(), "scale"_a, "zero_point"_a, "out"_a.noconvert());
  m.def("requantize", &requantize, "accumulator"_a.noconvert(), "multiplier"_a.noconvert(), "shift"_a.noconvert(),
        "rounding"_a);
  m.def("finish", &finish, "accumulator"_a.noconvert(), "bias"_a.noconvert(), "multiplier"_a.noconvert(),
        "shift"_a.noconvert(), "codes"_a, "rounding"_a, "out"_a.noconvert());
  m.def(
      "srdhm", [](const Int32Array &a, const Int32Array &b, const Int32Out &out) { map2(a, b, out, qmath_srdhm); },
      "a"_a.noconvert(), "b"_a.noconvert(), "out"_a.noconvert());
  m.def(
      "rounding_divide_by_pot",
      [](const Int32Array &x, int exponent, const Int32Out &out) {
        require(0 <= exponent && exponent <= 31, "the exponent must lie in [0, 31]");
        map(x, out, [=](int32_t value) { return qmath_rounding_divide_by_pot(value, exponent); });
      },
      "x"_a.noconvert(), "exponent"_a, "out"_a.noconvert());
  m.def(
      "exp_on_negative_values",
      [](const Int32Array &a, int integer_bits, const Int32Out &out) {
        require(0 <= integer_bits && integer_bits <= 29, "integer_bits must lie in [0, 29]");
        map(a, out, [=](int32_t value) { return qmath_exp_on_negative_values(value, integer_bits); });
      },
      "a"_a.noconvert(), "integer_bits"_a, "out"_a.noconvert());
  m.def(
      "one_over_one_plus_x", [](const Int32Array &a, const Int32Out &out) { map(a, out, qmath_one_over_one_plus_x); },
      "a"_a.noconvert(), "out"_a.noconvert());
  m.def(
      "average",
      [](const Int32Array &total, const Int32Array &count, const Int32Out &out) {
        for (size_t i = 0; i < count.size(); ++i) require(count.data()[i] >= 1, "counts must be positive");
        map2(total, count, out, qmath_average);
      },
      "total"_a.noconvert(), "count"_a.noconvert(), "out"_a.noconvert());
}

void define_engine(nb::module_ &m) {
  nb::class_<Borders>(m, "Borders")
      .def("__init__", &construct_borders, nb::keep_alive<1, 2>(), "engine"_a, "inputs"_a, "outputs"_a);
  nb::class_<Engine>(m, "Engine")
      .def("__init__", &construct, "tensors"_a, "instructions"_a, "inputs"_a, "outputs"_a, "arena_bytes_per_sample"_a,
           "threads"_a, "level"_a)
      .def("run", &run, "batch"_a, "inputs"_a, "outputs"_a)
      .def("call", &call, "batch"_a, "inputs"_a, "outputs"_a, "borders"_a)
      .def_prop_ro("threads", &Engine::threads)
      .def_prop_ro("remembered", &Engine::remembered)
      .def("reset", &Engine::reset, nb::call_guard<PythonUnlocked>())
      .def("profile", &profile, "batch"_a, "inputs"_a, "outputs"_a, "borders"_a)
      .def("kernels", &kernels)
      .def("layers", &layers);
}

}  // namespace
}  // namespace unfloat

NB_MODULE(_native, m) {
  nb::set_leak_warnings(false);  // an engine may live as long as its process
  unfloat::define_engine(m);
  unfloat::define_arithmetic(m);
  unfloat::define_training(m);
}
