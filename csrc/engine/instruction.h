// What Python hands over: tensors and instructions, as data.

#ifndef UNFLOAT_ENGINE_INSTRUCTION_H_
#define UNFLOAT_ENGINE_INSTRUCTION_H_

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace unfloat {

using Shape = std::vector<int64_t>;

enum class DType { kInt8, kUint8, kInt32, kInt16, kInt64 };

// A contiguous array that someone else owns and keeps alive while an engine is made.
struct Array {
  const void *data;
  DType dtype;
  Shape shape;
};

// An activation (shape of one sample, place in the arena) or a constant (whole shape, data).
struct TensorSpec {
  Shape shape;
  DType dtype;          // of the codes: 8 bits or 16
  int64_t offset;       // bytes from the arena's start for a batch of one; -1 for a constant
  const uint8_t *data;  // the codes of a constant, else null
};

using Attribute = std::variant<int64_t, std::vector<int64_t>, std::string>;

struct Instruction {
  std::string op;
  std::string name;
  std::vector<int64_t> inputs;  // indices of tensors
  int64_t output;
  std::map<std::string, Attribute> attributes;
  std::map<std::string, Array> constants;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_INSTRUCTION_H_
