// Runs a Program that replay.py has written to a file, at every level of this CPU, and counts the codes that differ
// from the interpreter's. Without Python, so that an emulator of another CPU can run it.
//
//   replay FILE THREADS...

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
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

TensorSpec read_tensor(Reader &reader) {
  TensorSpec spec;
  spec.shape = reader.numbers();
  spec.is_signed = reader.number() != 0;
  spec.offset = reader.number();
  const uint8_t *data = reader.data();
  spec.data = spec.offset < 0 ? data : nullptr;
  return spec;
}

Attribute read_attribute(Reader &reader) {
  switch (reader.number()) {
    case 0:
      return reader.number();
    case 1:
      return reader.numbers();
    default:
      return reader.text();
  }
}

Instruction read_instruction(Reader &reader) {
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

Case read_case(Reader &reader) {
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

void replay(Engine *engine, const Case &one, int64_t *codes, int64_t *wrong) {
  std::vector<std::vector<uint8_t>> found;
  std::vector<const void *> from(one.inputs.begin(), one.inputs.end());
  std::vector<void *> to;
  for (const auto &wanted : one.outputs) found.emplace_back(wanted.size());
  for (auto &each : found) to.push_back(each.data());
  const Engine::Claim claim(*engine, one.batch);
  engine->run(from.data(), to.data());
  for (size_t i = 0; i < found.size(); ++i) {
    for (size_t j = 0; j < found[i].size(); ++j) *wrong += found[i][j] != one.outputs[i][j];
    *codes += static_cast<int64_t>(found[i].size());
  }
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: replay FILE THREADS...\n"), 2;
  Reader reader(argv[1]);
  std::vector<TensorSpec> tensors;
  for (int64_t count = reader.number(); count > 0; --count) tensors.push_back(read_tensor(reader));
  std::vector<Instruction> instructions;
  for (int64_t count = reader.number(); count > 0; --count) instructions.push_back(read_instruction(reader));
  const std::vector<int64_t> inputs = reader.numbers(), outputs = reader.numbers();
  const int64_t arena = reader.number();
  std::vector<Case> cases;
  for (int64_t count = reader.number(); count > 0; --count) cases.push_back(read_case(reader));
  for (const std::string &level : unfloat::available_levels()) {
    int64_t codes = 0, wrong = 0;
    for (int i = 2; i < argc; ++i) {
      Engine engine(tensors, instructions, inputs, outputs, arena, std::atoi(argv[i]), level);
      for (const Case &one : cases) replay(&engine, one, &codes, &wrong);
    }
    std::printf("%s %lld %lld\n", level.c_str(), static_cast<long long>(codes), static_cast<long long>(wrong));
    std::fflush(stdout);
  }
  return 0;
}
