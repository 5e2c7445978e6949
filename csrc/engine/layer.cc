#include "layer.h"

#include <algorithm>
#include <stdexcept>

#include "level.h"
#include "loader.h"

#define UF_KERNEL(family, variant) extern "C" const uf_kernel family##__##variant;
#include "all_kernels.inc"
#undef UF_KERNEL

namespace unfloat {
namespace {

struct Entry {
  const char *family;
  const uf_kernel *kernel;
};

// Every kernel of this build; each family's fastest first.
const Entry kKernels[] = {
#define UF_KERNEL(family, variant) {#family, &family##__##variant},
#include "all_kernels.inc"
#undef UF_KERNEL
};

// UF_ANY_STORAGE where bytes and words are mixed.
uf_storage storage_of(const Layer &layer) {
  const auto of = [](const uf_tensor &tensor) { return tensor.width == 1 ? UF_BYTES : UF_WORDS; };
  const uf_storage first = of(layer.output->view);
  const auto alike = [&](const Tensor *operand) { return of(operand->view) == first; };
  return std::all_of(layer.operands.begin(), layer.operands.end(), alike) ? first : UF_ANY_STORAGE;
}

const uf_kernel *find_kernel(const Layer &layer, uf_level level) {
  const uf_storage storage = storage_of(layer);
  for (const Entry &entry : kKernels) {
    if (layer.family != entry.family || entry.kernel->level > level || !has_level(entry.kernel->level)) continue;
    if (entry.kernel->storage != storage && entry.kernel->storage != UF_ANY_STORAGE) continue;
    if (entry.kernel->supports == nullptr || entry.kernel->supports(&layer.node)) return entry.kernel;
  }
  const std::string codes = storage == UF_BYTES ? "bytes" : storage == UF_WORDS ? "int16 codes" : "codes of two widths";
  throw std::invalid_argument("layer '" + layer.name + "': no kernel for the operator '" + layer.op + "' on " + codes);
}

// Whether a tensor's memory touches another's; equal batches move both ends alike.
bool overlap(const Tensor &a, const Tensor &b) {
  return a.arena_offset < b.arena_offset + b.sample_size && b.arena_offset < a.arena_offset + a.sample_size;
}

const Tensor &tensor_at(const std::vector<Tensor> &tensors, int64_t index, const std::string &layer) {
  if (index < 0 || index >= static_cast<int64_t>(tensors.size())) {
    throw std::invalid_argument("layer '" + layer + "': there is no tensor " + std::to_string(index));
  }
  return tensors[static_cast<size_t>(index)];
}

}  // namespace

bool same_shape(const uf_tensor &a, const uf_tensor &b) {
  return a.rank == b.rank && std::equal(a.shape, a.shape + a.rank, b.shape);
}

size_t packed_bytes(const Layer &layer) {
  return layer.kernel->packed_size == nullptr ? 0 : layer.kernel->packed_size(&layer.node);
}

size_t scratch_bytes(const Layer &layer) {
  return layer.kernel->scratch_size == nullptr ? 0 : layer.kernel->scratch_size(&layer.node);
}

size_t state_bytes(const Layer &layer) {
  return layer.kernel->state_size == nullptr ? 0 : layer.kernel->state_size(&layer.node) * sizeof(int16_t);
}

std::unique_ptr<Layer> make_layer(const Instruction &instruction, const std::vector<Tensor> &tensors) {
  auto layer = std::make_unique<Layer>();
  layer->name = instruction.name;
  layer->op = instruction.op;
  layer->family = instruction.op;
  bool all_constant = true;
  for (const int64_t index : instruction.inputs) {
    layer->operands.push_back(&tensor_at(tensors, index, layer->name));
    layer->inputs.push_back(&layer->operands.back()->view);
    all_constant = all_constant && layer->operands.back()->constant;
  }
  const Tensor &output = tensor_at(tensors, instruction.output, layer->name);
  layer->output = &output;
  layer->node.found = layer->found;
  layer->node.input_count = static_cast<int32_t>(layer->inputs.size());
  layer->node.inputs = layer->inputs.data();
  layer->node.output = &output.view;
  Loader loader(instruction, *layer);
  loader.require(!output.constant && !all_constant, "its output and one input at least must be activations");
  load_parameters(instruction.op, loader);
  return layer;
}

void choose_kernel(Layer &layer, uf_level level) { layer.kernel = find_kernel(layer, level); }

void pack_layer(Layer &layer, uint8_t *memory) {
  const bool weighs = layer.borrowed > 0 || layer.weight.size() > 0;
  if (packed_bytes(layer) > 0) {
    layer.kernel->pack(&layer.node, memory);
    layer.node.packed = memory;
    layer.weight = Buffer();  // the kernel has its own copy now; see kernel.h
    if (weighs) layer.node.params.linear.weight = nullptr;
  } else if (layer.borrowed > 0) {
    layer.weight = Buffer(layer.node.params.linear.weight, layer.borrowed);
    layer.node.params.linear.weight = reinterpret_cast<const int8_t *>(layer.weight.data());
  }
  layer.borrowed = 0;
}

void join_layers(Layer &layer, Layer &next) {
  if (!layer.kernel->leads || layer.node.follower != nullptr || next.kernel->span == nullptr) return;
  bool reads_layer = false;
  for (const Tensor *operand : next.operands) {
    if (operand->constant || !same_shape(operand->view, next.output->view)) return;
    reads_layer = reads_layer || operand == layer.output;
  }
  for (const Tensor *operand : layer.operands) {
    if (!operand->constant && overlap(*operand, *next.output)) return;
  }
  if (!reads_layer) return;
  layer.node.follower = &next.node;
  layer.node.follower_span = next.kernel->span;
  next.leader = &layer;
}

}  // namespace unfloat
