#include "bindings_training.h"

#include <dlfcn.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "engine/thread_pool.h"
#include "python_unlocked.h"
#include "rows.h"
#include "training.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace unfloat {
namespace {

template <typename T>
using Table = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Row = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OptionalTable = std::optional<Table<const float>>;

constexpr int64_t kWorthAThread = 1 << 15;  // values below which a second thread costs more than it saves

void require(bool condition, const char *problem) {
  if (!condition) throw std::invalid_argument(problem);
}

template <typename T>
training_rows all_rows(const Table<T> &table) {
  return {0, static_cast<int64_t>(table.shape(0)), static_cast<int64_t>(table.shape(1))};
}

// Threads of the OpenMP runtime that PyTorch has brought into this process. Its threads wait for the next loop by
// spinning: threads of our own would have to fight them for the cores. The two entry points are the same in GCC's and
// LLVM's runtimes; the process may have none.
class OpenMp {
 public:
  OpenMp()
      : parallel_(reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"))),
        number_(reinterpret_cast<Count>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"))),
        team_(reinterpret_cast<Count>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"))) {}

  bool found() const { return parallel_ != nullptr && number_ != nullptr && team_ != nullptr; }

  // work(0) to work(count - 1), by as many threads as there are up to `count`.
  template <typename Work>
  void run(int count, Work work) {
    struct Context {
      OpenMp &omp;
      Work &work;
      int count;
    } context{*this, work, count};
    parallel_(
        [](void *opaque) {
          auto &c = *static_cast<Context *>(opaque);
          for (int part = c.omp.number_(); part < c.count; part += c.omp.team_()) c.work(part);
        },
        &context, static_cast<unsigned>(count), 0);
  }

 private:
  using Parallel = void (*)(void (*)(void *), void *, unsigned, unsigned);
  using Count = int (*)();
  Parallel parallel_;
  Count number_, team_;
};

// One team for the process: OpenMP's, or our own.
class Team {
 public:
  template <typename Work>
  void split(int threads, training_rows rows, Work work) {
    const int64_t worth = rows.end * rows.channels / kWorthAThread + 1;
    const int count = static_cast<int>(std::min<int64_t>({threads, worth, rows.end > 0 ? rows.end : 1}));
    if (count <= 1) {
      work(0, rows);
      return;
    }
    const auto share = [&](int thread) {
      work(thread, training_rows{rows.end * thread / count, rows.end * (thread + 1) / count, rows.channels});
    };
    if (omp_.found()) {
      omp_.run(count, share);
      return;
    }
    const std::lock_guard<ForkSafeMutex> lock(mutex_);
    if (!pool_ || pool_->threads() != threads) pool_ = std::make_unique<ThreadPool>(threads);
    struct Context {
      decltype(share) &work;
      int count;
    } context{share, count};
    pool_->run(
        [](void *opaque, int thread) {
          auto &c = *static_cast<Context *>(opaque);
          if (thread < c.count) c.work(thread);
        },
        &context);
  }

 private:
  OpenMp omp_;
  ForkSafeMutex mutex_;
  std::unique_ptr<ThreadPool> pool_;
};

Team &team() {
  static Team *const the_team = new Team;  // never destroyed: threads may outlive static objects
  return *the_team;
}

// Sums over threads: one row of `width` numbers a thread, added in order.
class Partials {
 public:
  Partials(int threads, int64_t width) : width_(width) {
    require(threads > 0, "at least one thread");
    values_.resize(static_cast<size_t>(threads) * width);
  }
  double *of(int thread) { return values_.data() + thread * width_; }
  void add_to(double *total) const {
    for (size_t i = 0; i < values_.size(); ++i) total[i % width_] += values_[i];
  }

 private:
  int64_t width_;
  std::vector<double> values_;
};

// Per-channel numbers of the integers, or nothing.
struct IntegerRows {
  std::optional<Row<const int32_t>> bias, multiplier;
  std::optional<Row<const int8_t>> shift;

  void check(size_t channels) const {
    require(bias && multiplier && shift && bias->size() == channels && multiplier->size() == channels &&
                shift->size() == channels,
            "bias, multiplier and shift for each channel");
    for (size_t c = 0; c < channels; ++c) {
      require(-31 <= shift->data()[c] && shift->data()[c] <= 30 && multiplier->data()[c] >= 0,
              "shifts must lie in [-31, 30], multipliers must not be negative");
      require(-(1 << 30) <= bias->data()[c] && bias->data()[c] <= 1 << 30, "biases must leave the accumulator room");
    }
  }
};

training_output as_output(const std::string &rounding, const IntegerRows &integers, size_t channels) {
  training_output output{};
  output.kind = TRAINING_EXACT;
  output.rounding = rounding == "single" ? QMATH_SINGLE : QMATH_DOUBLE;
  if (rounding == "real" || rounding == "float") {
    output.kind = rounding == "real" ? TRAINING_REAL : TRAINING_ROUNDED;
    return output;
  }
  require(rounding == "single" || rounding == "double", "rounding must be real, float, single or double");
  integers.check(channels);
  output.bias = integers.bias->data();
  output.multiplier = integers.multiplier->data();
  output.shift = integers.shift->data();
  return output;
}

constexpr training_ends kNoEnds{__builtin_inff(), -__builtin_inff()};

// The ends over all threads; NaN if one saw a NaN.
std::tuple<float, float> merged(const std::vector<training_ends> &ends) {
  training_ends all = kNoEnds;
  for (const training_ends &e : ends) {
    if (e.low != e.low) return {e.low, e.low};
    all.low = e.low < all.low ? e.low : all.low;
    all.high = e.high > all.high ? e.high : all.high;
  }
  return {all.low, all.high};
}

std::tuple<float, float> finish_steps(const Table<const float> &accumulator, const Row<const float> &factor,
                                      const Row<const float> &offset, std::optional<Row<const int32_t>> bias,
                                      std::optional<Row<const int32_t>> multiplier,
                                      std::optional<Row<const int8_t>> shift, const std::string &rounding, float low,
                                      float high, const Table<float> &steps, const Table<uint8_t> &inside,
                                      int threads) {
  const training_rows rows = all_rows(accumulator);
  const auto channels = static_cast<size_t>(rows.channels);
  require(factor.size() == channels && offset.size() == channels, "one factor and offset for each channel");
  require(steps.size() == accumulator.size() && inside.size() == accumulator.size(), "outputs of the same shape");
  require(threads > 0, "at least one thread");
  training_output output = as_output(rounding, {bias, multiplier, shift}, channels);
  require(output.kind == TRAINING_REAL || (-65536 <= low && high <= 65536), "bounds of codes");
  output.factor = factor.data();
  output.offset = offset.data();
  output.low = low;
  output.high = high;
  std::vector<training_ends> ends(static_cast<size_t>(threads), kNoEnds);
  {
    const PythonUnlocked unlocked;
    team().split(threads, rows, [&](int thread, training_rows part) {
      ends[thread] = training_finish(part, accumulator.data(), &output, steps.data(), inside.data());
    });
  }
  return merged(ends);
}

template <typename T>
const T *data_or_null(const std::optional<Table<const T>> &table) {
  return table ? table->data() : nullptr;
}

// Sums of gradients, [3, channels]; see training.h.
void gradient_sums(const Table<const float> &grad, const Table<const uint8_t> &inside, const OptionalTable &accumulator,
                   const OptionalTable &steps, const Row<const float> &factor, std::optional<Table<float>> out,
                   const Table<double> &sums, int threads) {
  const training_rows rows = all_rows(grad);
  const auto width = static_cast<size_t>(rows.channels);
  require(inside.size() == grad.size() && (!accumulator || accumulator->size() == grad.size()) &&
              (!steps || steps->size() == grad.size()) && (!out || out->size() == grad.size()),
          "tables of the same shape");
  require(factor.size() == width && sums.shape(0) == 3 && sums.shape(1) == width && threads > 0,
          "one number for each channel");
  const training_incoming incoming{
      grad.data(), inside.data(), data_or_null(accumulator), data_or_null(steps), factor.data(), nullptr, nullptr};
  const PythonUnlocked unlocked;
  Partials partials(threads, 3 * rows.channels);
  team().split(threads, rows, [&](int thread, training_rows part) {
    double *own = partials.of(thread);
    const training_sums_of_gradients into{own, own + width, own + 2 * width};
    training_finish_backward(part, &incoming, out ? out->data() : nullptr, &into);
  });
  for (size_t i = 0; i < sums.size(); ++i) sums.data()[i] = 0;
  partials.add_to(sums.data());
}

void gradient_through_norm(const Table<const float> &grad, const Table<const uint8_t> &inside,
                           const Table<const float> &accumulator, const Row<const float> &factor,
                           const Row<const float> &constant, const Row<const float> &slope, const Table<float> &out,
                           int threads) {
  const training_rows rows = all_rows(grad);
  const auto width = static_cast<size_t>(rows.channels);
  require(inside.size() == grad.size() && accumulator.size() == grad.size() && out.size() == grad.size(),
          "tables of the same shape");
  require(factor.size() == width && constant.size() == width && slope.size() == width, "one number for each channel");
  const training_incoming incoming{grad.data(),   inside.data(),   accumulator.data(), nullptr,
                                   factor.data(), constant.data(), slope.data()};
  const PythonUnlocked unlocked;
  team().split(threads, rows,
               [&](int, training_rows part) { training_finish_backward(part, &incoming, out.data(), nullptr); });
}

void sums(const Table<const float> &x, const Table<double> &out, int threads) {
  const training_rows rows = all_rows(x);
  require(out.shape(0) == 2 && out.shape(1) == x.shape(1), "two rows of sums");
  const PythonUnlocked unlocked;
  Partials partials(threads, 2 * rows.channels);
  team().split(threads, rows, [&](int thread, training_rows part) {
    training_sums(part, x.data(), partials.of(thread), partials.of(thread) + rows.channels);
  });
  for (size_t i = 0; i < out.size(); ++i) out.data()[i] = 0;
  partials.add_to(out.data());
}

void weight_steps(const Table<const float> &weight, std::optional<Row<const double>> gain,
                  const Row<const double> &scale, int32_t low, int32_t high, const Table<float> &steps,
                  const Table<float> &row_sums, int threads) {
  const training_rows rows = all_rows(weight);
  const size_t count = weight.shape(0);
  require((!gain || gain->size() == count) && (scale.size() == count || scale.size() == 1), "one number a channel");
  require(steps.size() == weight.size() && row_sums.shape(0) == 2 && row_sums.shape(1) == count, "matching shapes");
  require(-255 <= low && low <= high && high <= 255, "bounds of codes");
  const PythonUnlocked unlocked;
  team().split(threads, rows, [&](int, training_rows part) {
    training_weight(part, weight.data(), gain ? gain->data() : nullptr, scale.data(), scale.size() > 1, low, high,
                    steps.data(), row_sums.data(), row_sums.data() + count);
  });
}

void weight_backward(const Table<const float> &grad, int64_t taps, const Table<const float> &weight,
                     const Row<const float> &slope, const OptionalTable &steps, float limit,
                     const Table<float> &to_weight, const Row<double> &to_gain, const Row<double> &missed,
                     int threads) {
  const training_rows rows = all_rows(weight);
  const size_t count = weight.shape(0);
  require(
      grad.size() == weight.size() && to_weight.size() == weight.size() && (!steps || steps->size() == weight.size()),
      "tables of the same shape");
  require(taps > 0 && rows.channels % taps == 0, "rows of a whole number of taps");
  require((slope.size() == count || slope.size() == 1) && to_gain.size() == count && missed.size() == count,
          "one number a channel");
  const PythonUnlocked unlocked;
  team().split(threads, rows, [&](int, training_rows part) {
    training_weight_backward(part, grad.data(), taps, weight.data(), slope.data(), slope.size() > 1,
                             data_or_null(steps), limit, to_weight.data(), to_gain.data(), missed.data());
  });
}

void reach(const Table<const float> &weight, const Row<float> &out, int threads) {
  require(out.size() == weight.shape(0), "one number a channel");
  const PythonUnlocked unlocked;
  team().split(threads, all_rows(weight),
               [&](int, training_rows part) { training_reach(part, weight.data(), out.data()); });
}

using Pair = std::tuple<int32_t, int32_t>;

// An addition as Python gives it: (zero_points, multipliers, shifts, left_shift, output factor, (zero point, least,
// greatest code)).
using Codes = std::tuple<int32_t, int32_t, int32_t>;
using AdditionFields = std::tuple<Pair, Pair, Pair, int32_t, Pair, Codes>;

rows_addition as_addition(const AdditionFields &fields, int32_t least, const std::string &rounding) {
  const auto [zero_points, multipliers, shifts, left_shift, factor, codes] = fields;
  const auto [zero_point, low, high] = codes;
  const auto in_range = [](int32_t shift) { return -31 <= shift && shift <= 0; };
  require(in_range(std::get<0>(shifts)) && in_range(std::get<1>(shifts)) && 0 <= left_shift && left_shift <= 20 &&
              -31 <= std::get<1>(factor) && std::get<1>(factor) <= 30,
          "shifts as an addition has them");
  require(std::get<0>(multipliers) >= 0 && std::get<1>(multipliers) >= 0 && std::get<0>(factor) >= 0,
          "multipliers must not be negative");
  const bool wide = left_shift <= 15;  // 16 bits, lifted, fit 31 as 9 bits do by 20
  const int32_t first = wide ? INT16_MIN : least, last = wide ? INT16_MAX : 255;
  const auto is_code = [=](int32_t code) { return first <= code && code <= last; };
  require(is_code(std::get<0>(zero_points)) && is_code(std::get<1>(zero_points)) && is_code(zero_point) &&
              is_code(low) && is_code(high) && low <= high,
          "zero points and clamp must be codes, in order");
  require(rounding == "single" || rounding == "double", "rounding must be single or double");
  return {{std::get<0>(zero_points), std::get<1>(zero_points)},
          {std::get<0>(multipliers), std::get<1>(multipliers)},
          {std::get<0>(shifts), std::get<1>(shifts)},
          left_shift,
          std::get<0>(factor),
          std::get<1>(factor),
          zero_point,
          low,
          high,
          rounding == "single" ? QMATH_SINGLE : QMATH_DOUBLE};
}

void add_codes(const Table<const int32_t> &a, const Table<const int32_t> &b, const AdditionFields &fields,
               const std::string &rounding, const Table<int32_t> &out, int threads) {
  require(a.size() == b.size() && a.size() == out.size(), "tables of the same shape");
  const rows_addition addition = as_addition(fields, -128, rounding);
  const PythonUnlocked unlocked;
  team().split(threads, all_rows(a), [&](int, training_rows part) {
    const int64_t begin = part.begin * part.channels, count = (part.end - part.begin) * part.channels;
    rows_add(a.data() + begin, b.data() + begin, count, &addition, out.data() + begin);
  });
}

std::tuple<float, float> add_steps(const Table<const float> &a, const Table<const float> &b,
                                   const AdditionFields &fields, std::tuple<double, double> factors,
                                   const std::string &rounding, const Table<float> &steps, const Table<uint8_t> &inside,
                                   int threads) {
  require(a.size() == b.size() && a.size() == steps.size() && a.size() == inside.size(), "tables of the same shape");
  require(threads > 0, "at least one thread");
  const rows_addition addition = as_addition(fields, -255, rounding);  // steps
  const double factor[2] = {std::get<0>(factors), std::get<1>(factors)};
  std::vector<training_ends> ends(static_cast<size_t>(threads), kNoEnds);
  {
    const PythonUnlocked unlocked;
    team().split(threads, all_rows(a), [&](int thread, training_rows part) {
      ends[thread] = training_add(part, a.data(), b.data(), &addition, factor, steps.data(), inside.data());
    });
  }
  return merged(ends);
}

}  // namespace

void define_training(nb::module_ &m) {
  m.def("finish_steps", &finish_steps, "accumulator"_a.noconvert(), "factor"_a.noconvert(), "offset"_a.noconvert(),
        "bias"_a.none().noconvert(), "multiplier"_a.none().noconvert(), "shift"_a.none().noconvert(), "rounding"_a,
        "low"_a, "high"_a, "steps"_a.noconvert(), "inside"_a.noconvert(), "threads"_a);
  m.def("gradient_sums", &gradient_sums, "grad"_a.noconvert(), "inside"_a.noconvert(),
        "accumulator"_a.none().noconvert(), "steps"_a.none().noconvert(), "factor"_a.noconvert(),
        "out"_a.none().noconvert(), "sums"_a.noconvert(), "threads"_a);
  m.def("gradient_through_norm", &gradient_through_norm, "grad"_a.noconvert(), "inside"_a.noconvert(),
        "accumulator"_a.noconvert(), "factor"_a.noconvert(), "constant"_a.noconvert(), "slope"_a.noconvert(),
        "out"_a.noconvert(), "threads"_a);
  m.def("weight_backward", &weight_backward, "grad"_a.noconvert(), "taps"_a, "weight"_a.noconvert(),
        "slope"_a.noconvert(), "steps"_a.none().noconvert(), "limit"_a, "to_weight"_a.noconvert(),
        "to_gain"_a.noconvert(), "missed"_a.noconvert(), "threads"_a);
  m.def("add_codes", &add_codes, "a"_a.noconvert(), "b"_a.noconvert(), "addition"_a, "rounding"_a, "out"_a.noconvert(),
        "threads"_a);
  m.def("add_steps", &add_steps, "a"_a.noconvert(), "b"_a.noconvert(), "addition"_a, "factors"_a, "rounding"_a,
        "steps"_a.noconvert(), "inside"_a.noconvert(), "threads"_a);
  m.def("sums", &sums, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
  m.def("weight_steps", &weight_steps, "weight"_a.noconvert(), "gain"_a.none().noconvert(), "scale"_a.noconvert(),
        "low"_a, "high"_a, "steps"_a.noconvert(), "row_sums"_a.noconvert(), "threads"_a);
  m.def("reach", &reach, "weight"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
}

}  // namespace unfloat
