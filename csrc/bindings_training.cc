#include "bindings_training.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "engine/thread_pool.h"
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

// One team for the process, made anew after a fork (a child has none of its parent's threads).
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
    const std::lock_guard<std::mutex> lock(mutex_);
    prepare(threads);
    struct Context {
      Work &work;
      training_rows rows;
      int count;
    } context{work, rows, count};
    pool_->run(
        [](void *opaque, int thread) {
          auto &c = *static_cast<Context *>(opaque);
          if (thread >= c.count) return;
          training_rows part = c.rows;
          part.begin = c.rows.end * thread / c.count;
          part.end = c.rows.end * (thread + 1) / c.count;
          c.work(thread, part);
        },
        &context);
  }

 private:
  void prepare(int threads) {
    if (pool_ && process_ == getpid() && pool_->threads() == threads) return;
    if (process_ != getpid()) pool_.release();  // its threads live in the parent
    pool_ = std::make_unique<ThreadPool>(threads);
    process_ = getpid();
  }

  std::mutex mutex_;
  std::unique_ptr<ThreadPool> pool_;
  pid_t process_ = 0;
};

Team &team() {
  static Team *const the_team = new Team;  // never destroyed: threads may outlive static objects
  return *the_team;
}

// Sums over threads: one row of `width` numbers a thread, added in order.
class Partials {
 public:
  Partials(int threads, int64_t width) : width_(width), values_(static_cast<size_t>(threads) * width) {}
  double *of(int thread) { return values_.data() + thread * width_; }
  void add_to(double *total) const {
    for (size_t i = 0; i < values_.size(); ++i) total[i % width_] += values_[i];
  }

 private:
  int64_t width_;
  std::vector<double> values_;
};

std::tuple<float, float> finish_steps(const Table<const float> &accumulator, const Row<const float> &factor,
                                      const Row<const float> &offset, std::optional<Row<const int32_t>> bias,
                                      std::optional<Row<const int32_t>> multiplier,
                                      std::optional<Row<const int8_t>> shift, const std::string &rounding, int32_t low,
                                      int32_t high, const Table<float> &steps, const Table<uint8_t> &inside,
                                      int threads) {
  const training_rows rows = all_rows(accumulator);
  const auto channels = static_cast<size_t>(rows.channels);
  require(factor.size() == channels && offset.size() == channels, "one factor and offset for each channel");
  require(steps.size() == accumulator.size() && inside.size() == accumulator.size(), "outputs of the same shape");
  training_output output{factor.data(), offset.data(), nullptr, nullptr, nullptr, QMATH_DOUBLE, low, high};
  if (bias) {
    require(
        multiplier && shift && bias->size() == channels && multiplier->size() == channels && shift->size() == channels,
        "bias, multiplier and shift for each channel");
    for (size_t c = 0; c < channels; ++c) {
      require(-31 <= shift->data()[c] && shift->data()[c] <= 30 && multiplier->data()[c] >= 0,
              "shifts must lie in [-31, 30], multipliers must not be negative");
    }
    output.bias = bias->data();
    output.multiplier = multiplier->data();
    output.shift = shift->data();
    output.rounding = rounding == "single" ? QMATH_SINGLE : QMATH_DOUBLE;
  }
  std::vector<training_ends> ends(static_cast<size_t>(threads), {__builtin_inff(), -__builtin_inff()});
  {
    const nb::gil_scoped_release release;
    team().split(threads, rows, [&](int thread, training_rows part) {
      ends[thread] = training_finish(part, accumulator.data(), &output, steps.data(), inside.data());
    });
  }
  training_ends all = ends[0];
  for (const training_ends &e : ends) {
    if (e.low != e.low) return {e.low, e.low};
    all.low = e.low < all.low ? e.low : all.low;
    all.high = e.high > all.high ? e.high : all.high;
  }
  return {all.low, all.high};
}

void finish_backward(const Table<const float> &grad, const Table<const uint8_t> &inside, const Row<const float> &factor,
                     const OptionalTable &accumulator, const Table<float> &to_accumulator, const Row<double> &to_offset,
                     const Row<double> &to_factor, int threads) {
  const training_rows rows = all_rows(grad);
  const auto channels = static_cast<size_t>(rows.channels);
  require(inside.size() == grad.size() && to_accumulator.size() == grad.size() &&
              (!accumulator || accumulator->size() == grad.size()),
          "tables of the same shape");
  require(factor.size() == channels && to_offset.size() == channels && to_factor.size() == channels,
          "one number for each channel");
  const nb::gil_scoped_release release;
  Partials sums(threads, 2 * rows.channels);
  team().split(threads, rows, [&](int thread, training_rows part) {
    training_finish_backward(part, grad.data(), inside.data(), factor.data(),
                             accumulator ? accumulator->data() : nullptr, to_accumulator.data(), sums.of(thread),
                             sums.of(thread) + rows.channels);
  });
  std::vector<double> total(2 * channels);
  sums.add_to(total.data());
  for (size_t c = 0; c < channels; ++c) {
    to_offset.data()[c] = total[c];
    to_factor.data()[c] = total[channels + c];
  }
}

void sums(const Table<const float> &x, const Table<double> &out, int threads) {
  const training_rows rows = all_rows(x);
  require(out.shape(0) == 2 && out.shape(1) == x.shape(1), "two rows of sums");
  const nb::gil_scoped_release release;
  Partials partials(threads, 2 * rows.channels);
  team().split(threads, rows, [&](int thread, training_rows part) {
    training_sums(part, x.data(), partials.of(thread), partials.of(thread) + rows.channels);
  });
  for (size_t i = 0; i < out.size(); ++i) out.data()[i] = 0;
  partials.add_to(out.data());
}

void add_affine(const Table<const float> &x, const Row<const float> &constant, const Row<const float> &slope,
                const Table<float> &grad, int threads) {
  const training_rows rows = all_rows(x);
  require(grad.size() == x.size() && constant.size() == x.shape(1) && slope.size() == x.shape(1), "matching shapes");
  const nb::gil_scoped_release release;
  team().split(threads, rows, [&](int, training_rows part) {
    training_add_affine(part, x.data(), constant.data(), slope.data(), grad.data());
  });
}

void weight_steps(const Table<const float> &weight, std::optional<Row<const double>> gain,
                  const Row<const double> &scale, int32_t low, int32_t high, const Table<float> &steps,
                  const Table<float> &row_sums, int threads) {
  const training_rows rows = all_rows(weight);
  const size_t count = weight.shape(0);
  require((!gain || gain->size() == count) && (scale.size() == count || scale.size() == 1), "one number a channel");
  require(steps.size() == weight.size() && row_sums.shape(0) == 2 && row_sums.shape(1) == count, "matching shapes");
  require(-255 <= low && low <= high && high <= 255, "bounds of codes");
  const nb::gil_scoped_release release;
  team().split(threads, rows, [&](int, training_rows part) {
    training_weight(part, weight.data(), gain ? gain->data() : nullptr, scale.data(), scale.size() > 1, low, high,
                    steps.data(), row_sums.data(), row_sums.data() + count);
  });
}

void reach(const Table<const float> &weight, const Row<float> &out, int threads) {
  require(out.size() == weight.shape(0), "one number a channel");
  const nb::gil_scoped_release release;
  team().split(threads, all_rows(weight),
               [&](int, training_rows part) { training_reach(part, weight.data(), out.data()); });
}

}  // namespace

void define_training(nb::module_ &m) {
  m.def("finish_steps", &finish_steps, "accumulator"_a.noconvert(), "factor"_a.noconvert(), "offset"_a.noconvert(),
        "bias"_a.none(), "multiplier"_a.none(), "shift"_a.none(), "rounding"_a, "low"_a, "high"_a,
        "steps"_a.noconvert(), "inside"_a.noconvert(), "threads"_a);
  m.def("finish_backward", &finish_backward, "grad"_a.noconvert(), "inside"_a.noconvert(), "factor"_a.noconvert(),
        "accumulator"_a.none(), "to_accumulator"_a.noconvert(), "to_offset"_a.noconvert(), "to_factor"_a.noconvert(),
        "threads"_a);
  m.def("sums", &sums, "x"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
  m.def("add_affine", &add_affine, "x"_a.noconvert(), "constant"_a.noconvert(), "slope"_a.noconvert(),
        "grad"_a.noconvert(), "threads"_a);
  m.def("weight_steps", &weight_steps, "weight"_a.noconvert(), "gain"_a.none(), "scale"_a.noconvert(), "low"_a,
        "high"_a, "steps"_a.noconvert(), "row_sums"_a.noconvert(), "threads"_a);
  m.def("reach", &reach, "weight"_a.noconvert(), "out"_a.noconvert(), "threads"_a);
}

}  // namespace unfloat
