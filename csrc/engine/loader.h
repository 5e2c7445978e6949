// Reads one instruction's attributes and constants, checking each: the helpers of operators.cc.

#ifndef UNFLOAT_ENGINE_LOADER_H_
#define UNFLOAT_ENGINE_LOADER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "layer.h"

namespace unfloat {

class Loader {
 public:
  Loader(const Instruction &instruction, Layer &layer) : instruction_(instruction), layer_(layer) {}

  [[noreturn]] void fail(const std::string &problem) const;
  void require(bool condition, const std::string &problem) const;

  uf_params &params() { return layer_.node.params; }
  const uf_tensor &input(size_t index = 0) const { return layer_.operands[index]->view; }
  size_t input_count() const { return layer_.operands.size(); }
  const uf_tensor &output() const { return *layer_.node.output; }

  bool is_activation(size_t index) const { return !layer_.operands[index]->constant; }

  void require_inputs(size_t count) const;
  void require_activations() const;
  void require_same_storage() const;
  void require_rank(const uf_tensor &tensor, int rank) const;

  // Attributes. Bounds are inclusive.
  int32_t integer(const std::string &name, int64_t low, int64_t high) const;
  std::vector<int32_t> integers(const std::string &name, size_t count, int64_t low, int64_t high) const;
  std::vector<int64_t> integers(const std::string &name) const;
  int32_t code(const std::string &name, const uf_tensor &tensor) const;  // of `tensor`; in byte space, if it has bytes
  int32_t zero_point(const std::string &name, const uf_tensor &tensor) const;
  int32_t multiplier(const std::string &name) const { return integer(name, 0, INT32_MAX); }
  int32_t shift(const std::string &name) const { return integer(name, -31, 30); }
  uf_output output_stage() const;  // zero point, clamps, rounding
  void require_kernel(int32_t kernel_h, int32_t kernel_w) const;
  uf_window window(int32_t kernel_h, int32_t kernel_w, bool dilated) const;
  uf_window transposed_window(int32_t kernel_h, int32_t kernel_w) const;

  // Keeps a list of `count` indices below `size` with the layer.
  const int32_t *indices(const std::string &name, int32_t count, int32_t size);

  // The operator has no kernels of its own name.
  void use_kernels_of(const char *family) { layer_.family = family; }

  void load_table();  // lookup

  // Constants of a linear operator.
  void load_linear(const Shape &weight_shape, int32_t outputs);
  const Array &constant(const std::string &name) const;

  // Keeps a constant of this shape with the layer; T is int8_t, int16_t or int32_t.
  template <typename T>
  const T *array(const std::string &name, const Shape &shape) {
    return reinterpret_cast<const T *>(keep(load_array(name, dtype_of<T>(), shape)));
  }
  const int16_t *words(const std::string &name, const Shape &shape);  // of int8 or int16
  const int32_t *multipliers(int32_t count);
  const int8_t *shifts(int32_t count);
  void remember(bool carried) { layer_.remembers = carried; }

 private:
  const Attribute &attribute(const std::string &name) const;
  const int8_t *load_weight(const Shape &shape, int32_t *zero_point);
  Buffer load_int32(const std::string &name, int32_t count, int32_t low) const;
  Buffer load_int64(const std::string &name, int32_t count) const;
  Buffer load_shifts(int32_t count, int32_t most) const;
  const uint8_t *keep(Buffer buffer);
  template <typename T>
  static constexpr DType dtype_of() {
    return sizeof(T) == 1 ? DType::kInt8 : sizeof(T) == 2 ? DType::kInt16 : DType::kInt32;
  }
  Buffer load_array(const std::string &name, DType dtype, const Shape &shape) const;

  const Instruction &instruction_;
  Layer &layer_;
};

// Fills the node's parameters as the operator says.
void load_parameters(const std::string &op, Loader &loader);

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_LOADER_H_
