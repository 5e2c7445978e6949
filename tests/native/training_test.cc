// The loops of a training step, and rows_add, at sizes that leave tails: rows together give what each gives alone,
// nothing is written but the rows asked for and, under sanitizers, nothing is read behind them. What they give is
// compared with PyTorch in tests/quant/test_loops.py.

#include "training.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <utility>
#include <vector>

#include "rows.h"

namespace {

std::mt19937 generator(1);

// Whole numbers: sums are exact in any order.
template <typename T>
std::vector<T> drawn(int64_t count, int low, int high) {
  std::vector<T> values(static_cast<size_t>(count));
  for (T &v : values) v = static_cast<T>(std::uniform_int_distribution<int>(low, high)(generator));
  return values;
}

// Floats of every kind, a NaN last.
std::vector<float> odd_ones(int64_t count) {
  const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 0x1p31f, -0x1p31f, 1e-45f};
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[count - 1 - i] = odd[i % 8];
  return values;
}

// Room for outputs, handed out in the same order again after `again()`.
class Room {
 public:
  // For values up to `end`, of which those before `begin` must not change.
  template <typename T>
  T *of(int64_t begin, int64_t end) {
    if (next_ == parts_.size()) {
      parts_.push_back({kFence + begin * sizeof(T), std::vector<uint8_t>(2 * kFence + end * sizeof(T), kMark)});
    }
    return reinterpret_cast<T *>(parts_[next_++].bytes.data() + kFence);
  }
  // One for each channel, 0 at first.
  double *sums(int64_t channels) {
    const bool is_new = next_ == parts_.size();
    double *out = of<double>(0, channels);
    if (is_new) std::fill(out, out + channels, 0);
    return out;
  }

  void again() { next_ = 0; }

  bool is(const Room &other) const {
    const auto same = [](const Part &a, const Part &b) { return a.bytes == b.bytes && intact(a); };
    return parts_.size() == other.parts_.size() && std::equal(parts_.begin(), parts_.end(), other.parts_.begin(), same);
  }

 private:
  static constexpr size_t kFence = 128;  // bytes on both sides
  static constexpr uint8_t kMark = 0xa5;
  struct Part {
    size_t begin;
    std::vector<uint8_t> bytes;
  };

  static bool intact(const Part &part) {
    const auto marked = [](uint8_t byte) { return byte == kMark; };
    return std::all_of(part.bytes.begin(), part.bytes.begin() + part.begin, marked) &&
           std::all_of(part.bytes.end() - kFence, part.bytes.end(), marked);
  }

  size_t next_ = 0;
  std::vector<Part> parts_;
};

// With all that may be left out, or without.
bool passes(const training_rows &rows, bool all) {
  const int64_t width = rows.channels, begin = rows.begin * width, end = rows.end * width;
  const auto x = drawn<float>(end, -99, 99), grad = drawn<float>(end, -8, 8), odd = odd_ones(end);
  const auto inside = drawn<uint8_t>(end, 0, 1);
  const auto codes = drawn<int32_t>(end, -128, 127);
  const auto gain = drawn<double>(rows.end, -3, 3), scale = drawn<double>(all ? rows.end : 1, 1, 4);
  const auto factor = drawn<float>(width, -9, 9), slope = drawn<float>(all ? rows.end : 1, 1, 4);
  const auto bias = drawn<int32_t>(width, -99, 99), multiplier = drawn<int32_t>(width, 1 << 30, INT32_MAX);
  const auto shift = drawn<int8_t>(width, -9, 3);

  const auto run = [&](const training_rows &part, Room *room) {
    for (const auto kind : {TRAINING_REAL, TRAINING_ROUNDED, TRAINING_EXACT}) {
      for (const auto rounding : {QMATH_DOUBLE, QMATH_SINGLE}) {
        const training_output output = {kind,         factor.data(), factor.data(), bias.data(), multiplier.data(),
                                        shift.data(), rounding,      -100,          90};
        training_finish(part, odd.data(), &output, room->of<float>(begin, end), room->of<uint8_t>(begin, end));
        training_finish(part, x.data(), &output, room->of<float>(begin, end), room->of<uint8_t>(begin, end));
      }
    }
    const float *a = all ? x.data() : nullptr, *constant = all ? factor.data() : nullptr;
    const training_incoming in = {grad.data(), inside.data(), a, a, factor.data(), constant, factor.data()};
    const training_sums_of_gradients sums = {room->sums(width), room->sums(width), room->sums(width)};
    training_finish_backward(part, &in, room->of<float>(begin, end), &sums);
    training_finish_backward(part, &in, all ? room->of<float>(begin, end) : nullptr, all ? nullptr : &sums);
    training_sums(part, x.data(), room->sums(width), room->sums(width));

    for (const auto &weight : {x, odd}) {
      float *steps = room->of<float>(begin, end), *magnitude = room->of<float>(rows.begin, rows.end);
      training_weight(part, weight.data(), all ? gain.data() : nullptr, scale.data(), all, -60, 50, steps, magnitude,
                      room->of<float>(rows.begin, rows.end));
    }
    double *to_gain = room->of<double>(rows.begin, rows.end), *missed = room->of<double>(rows.begin, rows.end);
    training_weight_backward(part, grad.data(), all && width % 3 == 0 ? 3 : 1, x.data(), slope.data(), all, a, 120,
                             room->of<float>(begin, end), to_gain, missed);
    training_reach(part, odd.data(), room->of<float>(rows.begin, rows.end));

    const int64_t first = part.begin * width;
    for (const auto rounding : {QMATH_DOUBLE, QMATH_SINGLE}) {
      const rows_addition by = {{-128, 127}, {INT32_MAX, 1 << 30}, {0, -3}, 20, INT32_MAX, -18, 7, -100, 90, rounding};
      rows_add(codes.data() + first, codes.data() + first, part.end * width - first, &by,
               room->of<int32_t>(begin, end) + first);
      const double factors[] = {1.25, -0.75};
      const rows_addition steps = {{0, 0}, {INT32_MAX, 1 << 30}, {0, -3}, 20, INT32_MAX, -18, 0, -100, 90, rounding};
      training_add(part, x.data(), grad.data(), &steps, factors, room->of<float>(begin, end),
                   room->of<uint8_t>(begin, end));
      training_add(part, odd.data(), x.data(), &steps, factors, room->of<float>(begin, end),
                   room->of<uint8_t>(begin, end));
    }
    room->again();
  };
  Room together, alone;
  run(rows, &together);
  run({rows.begin, rows.begin, width}, &alone);  // no rows at all
  for (int64_t row = rows.begin; row < rows.end; ++row) run({row, row + 1, width}, &alone);
  return together.is(alone);
}

}  // namespace

int main() {
  int failures = 0;
  for (const int64_t channels : {1, 2, 3, 24, 255, 256, 257, 511, 512, 513, 1100}) {
    for (const auto &[begin, end] : {std::pair{0, 1}, {3, 3}, {0, 20}, {1, 22}, {2, 45}}) {
      for (const bool all : {false, true}) {
        if (passes({begin, end, channels}, all)) continue;
        ++failures;
        std::printf("failed: rows %d to %d of %d channels\n", begin, end, static_cast<int>(channels));
      }
    }
  }
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
