// A layer: one instruction with its kernel, its node and the memory the node points into.

#ifndef UNFLOAT_ENGINE_LAYER_H_
#define UNFLOAT_ENGINE_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "buffer.h"
#include "instruction.h"
#include "kernel.h"

namespace unfloat {

// A tensor of the engine. Its view moves when the arena grows or the batch changes.
struct Tensor {
  uf_tensor view;
  bool constant;
  int64_t arena_offset;  // for a batch of one
  int64_t sample_size;   // bytes for each sample; the whole size of a constant
  Buffer codes;          // of a constant, as bytes
};

struct Layer {
  std::string name;
  std::string op;
  std::string family;  // of kernels: the operator's own, unless it shares another's
  const uf_kernel *kernel = nullptr;
  uf_node node = {};
  alignas(std::max_align_t) uint8_t found[UF_FOUND] = {};  // node.found
  std::vector<const Tensor *> operands;
  const Tensor *output = nullptr;
  std::vector<const uf_tensor *> inputs;  // node.inputs
  size_t borrowed = 0;  // bytes of a linear operator's weight that are the instruction's own, until pack_layer()
  Buffer weight, bias, multiplier, shift, table;
  Buffer indices;                 // of a gather
  std::vector<Buffer> kept;       // further constants
  Buffer state;                   // what runs leave to the next
  bool remembers = false;         // whether results depend on the runs before
  const Layer *leader = nullptr;  // the layer that runs this one as its follower
  int64_t nanoseconds = 0;        // of the last profiled run; those of a follower are the leader's
};

bool same_shape(const uf_tensor &a, const uf_tensor &b);

// Checks an instruction against its operator's rules and makes its layer: parameters and constants. Throws
// std::invalid_argument, naming the layer, where anything is missing or does not fit. Scratch is the engine's.
std::unique_ptr<Layer> make_layer(const Instruction &instruction, const std::vector<Tensor> &tensors);

// Chooses a layer's kernel. Throws std::invalid_argument where there is none.
void choose_kernel(Layer &layer, uf_level level);

// Packs the layer's weights into packed_bytes() of zeroed memory, or keeps them as they are; the instruction that the
// layer was made of is needed no longer. Reads nothing else but the layer and its tensors' views, so that several may
// be packed at the same time.
void pack_layer(Layer &layer, uint8_t *memory);

// What the layer's kernel asks for, once it is chosen: packed bytes, scratch for each thread, memory between runs.
size_t packed_bytes(const Layer &layer);
size_t scratch_bytes(const Layer &layer);
size_t state_bytes(const Layer &layer);  // of a sample

// Makes `next`, which runs right after `layer`, its follower where that gives the same bytes: an elementwise operator
// on the layer's output, none of whose results lies where the layer still reads.
void join_layers(Layer &layer, Layer &next);

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_LAYER_H_
