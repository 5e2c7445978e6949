// The engine's native entry under libFuzzer: bytes become tensors, instructions, attributes and constants, as
// csrc/bindings.cc hands them over. What the loader accepts must run cleanly at every level of this CPU; what it
// refuses must be a std::invalid_argument.
//
// The bytes are those of benchmarks/bits/replay.py. Numbers may be past the bounds that program/verify.py proves:
// accumulators then wrap (this target is built with -fwrapv) and no index may follow from them.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/level.h"

namespace {

using unfloat::Array;
using unfloat::Attribute;
using unfloat::DType;
using unfloat::Engine;
using unfloat::Instruction;
using unfloat::Shape;
using unfloat::TensorSpec;

constexpr size_t kMostParts = 16;        // tensors, instructions, attributes, numbers in a list
constexpr int64_t kMostCells = 1 << 13;  // of one array: a run stays short
constexpr int64_t kMostArena = 1 << 20;  // bytes a sample

struct Refused {};  // the bytes are no Program that the harness would hand over

// Little-endian int64 numbers, and bytes behind their count.
class Reader {
 public:
  Reader(const uint8_t *bytes, size_t size) : bytes_(bytes), size_(size) {}

  int64_t number() {
    int64_t value;
    places_.push_back(at_);
    std::memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  size_t count(size_t most = kMostParts) {
    const int64_t found = number();
    if (found < 0 || found > static_cast<int64_t>(most)) throw Refused();
    return static_cast<size_t>(found);
  }
  std::vector<int64_t> numbers() {
    std::vector<int64_t> all(count(64));
    for (int64_t &each : all) each = number();
    return all;
  }
  std::vector<uint8_t> data() {
    const size_t size = count(size_);
    const uint8_t *begin = take(size);
    return {begin, begin + size};
  }
  std::string text() {
    const std::vector<uint8_t> found = data();
    return {found.begin(), found.end()};
  }
  const std::vector<size_t> &places() const { return places_; }  // of the numbers read so far

 private:
  const uint8_t *take(size_t count) {
    if (count > size_ - at_) throw Refused();
    at_ += count;
    return bytes_ + at_ - count;
  }

  const uint8_t *bytes_;
  size_t size_, at_ = 0;
  std::vector<size_t> places_;
};

int64_t width(DType dtype) {
  switch (dtype) {
    case DType::kInt8:
    case DType::kUint8:
      return 1;
    case DType::kInt16:
      return 2;
    case DType::kInt32:
      return 4;
    case DType::kInt64:
      return 8;
  }
  throw Refused();
}

DType read_dtype(Reader &reader) { return static_cast<DType>(reader.count(4)); }

int64_t cells(const Shape &shape) {
  int64_t product = 1;
  for (const int64_t size : shape) {
    if (size < 0 || size > kMostCells / std::max<int64_t>(product, 1)) throw Refused();
    product *= size;
  }
  return product;
}

class Net {
 public:
  explicit Net(Reader &reader) {
    for (size_t count = reader.count(); count > 0; --count) read_tensor(reader);
    for (size_t count = reader.count(); count > 0; --count) read_instruction(reader);
    inputs_ = reader.numbers();
    outputs_ = reader.numbers();
  }

  void run(const std::string &level, int threads) const {
    Engine engine(tensors_, instructions_, inputs_, outputs_, arena_, threads, level);
    for (const int64_t batch : {3, 1}) {
      const Engine::Claim claim(engine, batch);
      std::vector<std::vector<uint8_t>> codes;
      std::vector<const void *> from;
      std::vector<void *> to;
      codes.reserve(engine.input_count() + engine.output_count());
      for (size_t i = 0; i < engine.input_count(); ++i)
        from.push_back(add(&codes, engine.input(i).sample_size * batch));
      for (size_t i = 0; i < engine.output_count(); ++i)
        to.push_back(add(&codes, engine.output(i).sample_size * batch));
      engine.run(from.data(), to.data());
    }
  }

 private:
  // Exactly as large as is said, so that a read past the end is seen.
  static uint8_t *add(std::vector<std::vector<uint8_t>> *codes, int64_t size) {
    codes->emplace_back(static_cast<size_t>(size));
    for (size_t i = 0; i < codes->back().size(); ++i) codes->back()[i] = static_cast<uint8_t>(i * 0x9E3779B1u >> 11);
    return codes->back().data();
  }

  // As many bytes as the shape says, which the binding makes sure of: those of the input, over and over.
  uint8_t *fill(const std::vector<uint8_t> &data, const Shape &shape, DType dtype) {
    const auto size = static_cast<size_t>(cells(shape) * width(dtype));
    arrays_.emplace_back(size);
    for (size_t i = 0; i < size && !data.empty(); ++i) arrays_.back()[i] = data[i % data.size()];
    return arrays_.back().data();
  }

  void read_tensor(Reader &reader) {
    TensorSpec spec;
    spec.shape = reader.numbers();
    spec.dtype = read_dtype(reader);
    spec.offset = reader.number();
    const std::vector<uint8_t> data = reader.data();
    spec.data = nullptr;
    if (spec.offset == -1) {
      spec.data = fill(data, spec.shape, spec.dtype);
    } else {  // one place after another: the plan is never a file's
      spec.offset = arena_;
      arena_ += (cells(spec.shape) * width(spec.dtype) + 63) / 64 * 64;
    }
    if (arena_ > kMostArena) throw Refused();
    tensors_.push_back(spec);
  }

  void read_instruction(Reader &reader) {
    Instruction instruction;
    instruction.op = reader.text();
    instruction.name = reader.text();
    instruction.inputs = reader.numbers();
    instruction.output = reader.number();
    for (size_t count = reader.count(); count > 0; --count) {
      const std::string name = reader.text();
      instruction.attributes[name] = read_attribute(reader);
    }
    for (size_t count = reader.count(); count > 0; --count) {
      const std::string name = reader.text();
      const DType dtype = read_dtype(reader);
      const Shape shape = reader.numbers();
      instruction.constants[name] = Array{fill(reader.data(), shape, dtype), dtype, shape};
    }
    // An output that is one of its own inputs is for the verifier to refuse: an instruction's name is new.
    const auto &inputs = instruction.inputs;
    if (std::find(inputs.begin(), inputs.end(), instruction.output) != inputs.end()) throw Refused();
    instructions_.push_back(instruction);
  }

  static Attribute read_attribute(Reader &reader) {
    switch (reader.count(2)) {
      case 0:
        return reader.number();
      case 1:
        return reader.numbers();
      default:
        return reader.text();
    }
  }

  std::vector<TensorSpec> tensors_;
  std::vector<Instruction> instructions_;
  std::vector<int64_t> inputs_, outputs_;
  int64_t arena_ = 0;
  std::vector<std::vector<uint8_t>> arrays_;
};

// Where the numbers of the input lie, as far as it can be read.
std::vector<size_t> places_of(const uint8_t *bytes, size_t size) {
  Reader reader(bytes, size);
  try {
    const Net net(reader);
  } catch (const Refused &) {  // damaged from there on
  }
  return reader.places();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const std::vector<std::string> levels = unfloat::available_levels();
  try {
    Reader reader(bytes, size);
    const Net net(reader);
    for (const std::string &level : levels) net.run(level, 1);
    net.run(levels.front(), 2);
  } catch (const Refused &) {
    return -1;  // not worth keeping
  } catch (const std::invalid_argument &) {
    return 0;
  }
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t most);

// Every other time one number is changed where it stands, so that the frame stays whole.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t size, size_t most, unsigned int seed) {
  static const int64_t kNumbers[] = {-1,
                                     0,
                                     1,
                                     2,
                                     3,
                                     5,
                                     8,
                                     16,
                                     31,
                                     32,
                                     64,
                                     127,
                                     128,
                                     255,
                                     256,
                                     65536,
                                     INT32_MAX,
                                     INT32_MIN,
                                     std::numeric_limits<int64_t>::max()};
  std::minstd_rand random(seed);
  const std::vector<size_t> places = places_of(bytes, size);
  if (places.empty() || random() % 4 == 0) return LLVMFuzzerMutate(bytes, size, most);
  for (unsigned long changes = 1 + random() % 3; changes > 0; --changes) {
    const size_t place = places[random() % places.size()];
    if (place + sizeof(int64_t) > size) continue;
    int64_t value;
    std::memcpy(&value, bytes + place, sizeof value);
    const int64_t step = random() % 2 == 0 ? 1 : -1;
    const bool near = random() % 2 == 0 && value != INT64_MAX && value != INT64_MIN;
    value = near ? value + step : kNumbers[random() % (sizeof kNumbers / sizeof *kNumbers)];
    std::memcpy(bytes + place, &value, sizeof value);
  }
  return size;
}
