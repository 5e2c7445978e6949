// A Program in a file that replay.py has written, with inputs and the interpreter's answers.

#ifndef UNFLOAT_BENCHMARKS_BITS_REPLAY_H_
#define UNFLOAT_BENCHMARKS_BITS_REPLAY_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/level.h"

namespace replay {

using unfloat::Array;
using unfloat::Attribute;
using unfloat::DType;
using unfloat::Engine;
using unfloat::Instruction;
using unfloat::Shape;
using unfloat::TensorSpec;

// Little-endian int64 numbers, and bytes behind their count.
class Reader {
 public:
  explicit Reader(const char *path) {
    std::ifstream file(path, std::ios::binary);
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
  }

  int64_t number() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value |= static_cast<uint64_t>(*take(1)) << 8 * i;
    return static_cast<int64_t>(value);
  }
  std::vector<int64_t> numbers() {
    std::vector<int64_t> all(static_cast<size_t>(number()));
    for (int64_t &each : all) each = number();
    return all;
  }
  const uint8_t *data(size_t *size = nullptr) {
    const auto count = static_cast<size_t>(number());
    if (size != nullptr) *size = count;
    return take(count);
  }
  std::string text() {
    size_t size = 0;
    const auto *begin = reinterpret_cast<const char *>(data(&size));
    return {begin, size};
  }

 private:
  const uint8_t *take(size_t count) {
    if (count > bytes_.size() - at_) {
      std::fprintf(stderr, "the file is too short\n");
      std::exit(2);
    }
    at_ += count;
    return reinterpret_cast<const uint8_t *>(bytes_.data()) + at_ - count;
  }

  std::vector<char> bytes_;
  size_t at_ = 0;
};

inline TensorSpec read_tensor(Reader &reader) {
  TensorSpec spec;
  spec.shape = reader.numbers();
  spec.dtype = static_cast<DType>(reader.number());
  spec.offset = reader.number();
  const uint8_t *data = reader.data();
  spec.data = spec.offset < 0 ? data : nullptr;
  return spec;
}

inline Attribute read_attribute(Reader &reader) {
  switch (reader.number()) {
    case 0:
      return reader.number();
    case 1:
      return reader.numbers();
    default:
      return reader.text();
  }
}

inline Instruction read_instruction(Reader &reader) {
  Instruction instruction;
  instruction.op = reader.text();
  instruction.name = reader.text();
  instruction.inputs = reader.numbers();
  instruction.output = reader.number();
  for (int64_t count = reader.number(); count > 0; --count) {
    const std::string name = reader.text();
    instruction.attributes[name] = read_attribute(reader);
  }
  for (int64_t count = reader.number(); count > 0; --count) {
    const std::string name = reader.text();
    const auto dtype = static_cast<DType>(reader.number());
    const Shape shape = reader.numbers();
    instruction.constants[name] = Array{reader.data(), dtype, shape};
  }
  return instruction;
}

struct Case {
  int64_t batch;
  std::vector<const uint8_t *> inputs;
  std::vector<std::vector<uint8_t>> outputs;  // those of the interpreter
};

inline Case read_case(Reader &reader) {
  Case one;
  one.batch = reader.number();
  for (int64_t count = reader.number(); count > 0; --count) one.inputs.push_back(reader.data());
  for (int64_t count = reader.number(); count > 0; --count) {
    size_t size = 0;
    const uint8_t *data = reader.data(&size);
    one.outputs.emplace_back(data, data + size);
  }
  return one;
}

// The file, and the Program in it. The arrays lie in the file's bytes.
class Recording {
 public:
  explicit Recording(const char *path) : reader_(path) {
    for (int64_t count = reader_.number(); count > 0; --count) tensors_.push_back(read_tensor(reader_));
    for (int64_t count = reader_.number(); count > 0; --count) instructions_.push_back(read_instruction(reader_));
    inputs_ = reader_.numbers();
    outputs_ = reader_.numbers();
    arena_ = reader_.number();
    for (int64_t count = reader_.number(); count > 0; --count) cases_.push_back(read_case(reader_));
  }

  const std::vector<Case> &cases() const { return cases_; }

  std::unique_ptr<Engine> engine(int threads, const std::string &level) const {
    return std::make_unique<Engine>(tensors_, instructions_, inputs_, outputs_, arena_, threads, level);
  }

 private:
  Reader reader_;
  std::vector<TensorSpec> tensors_;
  std::vector<Instruction> instructions_;
  std::vector<int64_t> inputs_, outputs_;
  int64_t arena_ = 0;
  std::vector<Case> cases_;
};

struct Tally {
  int64_t codes = 0, wrong = 0;
};

inline void run(Engine *engine, const Case &one, Tally *tally) {
  std::vector<std::vector<uint8_t>> found;
  std::vector<const void *> from(one.inputs.begin(), one.inputs.end());
  std::vector<void *> to;
  for (const auto &wanted : one.outputs) found.emplace_back(wanted.size());
  for (auto &each : found) to.push_back(each.data());
  const Engine::Claim claim(*engine, one.batch);
  engine->run(from.data(), to.data());
  for (size_t i = 0; i < found.size(); ++i) {
    for (size_t j = 0; j < found[i].size(); ++j) tally->wrong += found[i][j] != one.outputs[i][j];
    tally->codes += static_cast<int64_t>(found[i].size());
  }
}

}  // namespace replay

#endif  // UNFLOAT_BENCHMARKS_BITS_REPLAY_H_
