#include "engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <utility>

#include "level.h"

namespace unfloat {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 40;  // of the arena: far past any memory, far from overflow

int64_t now() {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
}

// Codes to bytes or back: adding 128 to a byte, or subtracting it, is flipping its highest bit. Words stay as they are.
void copy_codes(uint8_t *to, const uint8_t *from, int64_t size, int32_t offset) {
  const auto flip = static_cast<uint8_t>(offset);
  for (int64_t i = 0; i < size; ++i) to[i] = from[i] ^ flip;
}

// Calls `work` with every number below `count`, from as many threads as there are processors. Throws the error of the
// least number that has one.
void for_each(size_t count, const std::function<void(size_t)> &work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  size_t failed = count;
  std::exception_ptr error;
  const auto share = [&] {
    for (size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
      }
    }
  };
  const size_t workers = std::min<size_t>(std::thread::hardware_concurrency(), count);
  std::vector<std::thread> helpers;
  helpers.reserve(workers);
  try {
    for (size_t i = 1; i < workers; ++i) helpers.emplace_back(share);
  } catch (const std::exception &) {  // no more threads to be had: those that are there do all of it
  }
  share();
  for (std::thread &helper : helpers) helper.join();
  if (error != nullptr) std::rethrow_exception(error);
}

int64_t byte_size(const Tensor &tensor) { return uf_size(&tensor.view) * tensor.view.width; }

}  // namespace

Engine::Engine(const std::vector<TensorSpec> &tensors, const std::vector<Instruction> &instructions,
               std::vector<int64_t> inputs, std::vector<int64_t> outputs, int64_t arena_bytes_per_sample, int threads,
               const std::string &level)
    : inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      arena_bytes_per_sample_(arena_bytes_per_sample),
      pool_(threads) {
  if (arena_bytes_per_sample < 0 || arena_bytes_per_sample > kMaxBytes) {
    throw std::invalid_argument("the arena's size for each sample is impossible: " +
                                std::to_string(arena_bytes_per_sample));
  }
  tensors_.reserve(tensors.size());  // layers point at them
  for (const TensorSpec &spec : tensors) add_tensor(spec, arena_bytes_per_sample);
  check_ports();
  const uf_level chosen = choose_level(level);
  for (const Instruction &instruction : instructions) {
    layers_.push_back(make_layer(instruction, tensors_));
    remembers_ = remembers_ || layers_.back()->remembers;
  }
  prepare_layers(chosen);
  make_schedule();
  make_scratch();
  stamps_.resize(schedule_.size() + 1);
}

// Choosing kernels and packing weights take most of the load's time, and layers do not depend on each other. What they
// pack lies side by side in the order in which it is read; the largest are packed first, so that no thread is left
// alone with one at the end.
void Engine::prepare_layers(uf_level level) {
  struct Place {
    Layer *layer;
    size_t begin, size;
  };
  for_each(layers_.size(), [&](size_t i) { choose_kernel(*layers_[i], level); });
  std::vector<Place> places;
  size_t end = 0;
  for (const auto &layer : layers_) {
    const size_t size = packed_bytes(*layer);
    places.push_back({layer.get(), end, size});
    end += (size + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
  }
  packed_ = Buffer(end, UF_AHEAD);
  std::sort(places.begin(), places.end(), [](const Place &a, const Place &b) { return a.size > b.size; });
  for_each(places.size(), [&](size_t i) { pack_layer(*places[i].layer, packed_.data() + places[i].begin); });
}

void Engine::make_schedule() {
  for (const auto &layer : layers_) {
    if (!schedule_.empty()) join_layers(*schedule_.back(), *layer);
    if (layer->leader == nullptr) schedule_.push_back(layer.get());
  }
}

void Engine::add_tensor(const TensorSpec &spec, int64_t arena_bytes_per_sample) {
  const std::string where = "tensor " + std::to_string(tensors_.size()) + ": ";
  const bool constant = spec.data != nullptr;
  Shape shape = spec.shape;
  if (!constant) shape.insert(shape.begin(), 1);
  if (shape.empty() || shape.size() > UF_MAX_RANK) {
    throw std::invalid_argument(where + "needs 1 to " + std::to_string(UF_MAX_RANK) +
                                " dimensions with the batch, found " + std::to_string(shape.size()));
  }
  if (spec.dtype == DType::kInt32 || spec.dtype == DType::kInt64) {
    throw std::invalid_argument(where + "codes must be int8, uint8 or int16");
  }
  const int32_t width = spec.dtype == DType::kInt16 ? 2 : 1;
  Tensor tensor = {{}, constant, spec.offset, width, Buffer()};
  tensor.view.offset = spec.dtype == DType::kInt8 ? 128 : 0;
  tensor.view.width = width;
  tensor.view.rank = static_cast<int32_t>(shape.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] < 1 || shape[axis] > INT32_MAX / tensor.sample_size) {
      throw std::invalid_argument(where + "a dimension is below 1, or the size does not fit 31 bits");
    }
    tensor.sample_size *= shape[axis];
    tensor.view.shape[axis] = static_cast<int32_t>(shape[axis]);
  }
  if (constant) {
    tensor.codes = Buffer(static_cast<size_t>(tensor.sample_size));
    copy_codes(tensor.codes.data(), spec.data, tensor.sample_size, tensor.view.offset);
    tensor.view.data = tensor.codes.data();
  } else if (spec.offset < 0 || spec.offset % width != 0 || spec.offset > arena_bytes_per_sample - tensor.sample_size) {
    throw std::invalid_argument(where + "lies outside the arena");
  }
  tensors_.push_back(std::move(tensor));
}

void Engine::check_ports() const {
  for (const auto *ports : {&inputs_, &outputs_}) {
    for (const int64_t index : *ports) {
      if (index < 0 || index >= static_cast<int64_t>(tensors_.size()) ||
          tensors_[static_cast<size_t>(index)].constant) {
        throw std::invalid_argument("inputs and outputs must be activations, found tensor " + std::to_string(index));
      }
    }
  }
}

// One block for each thread, as large as the greediest layer's; layers run one after another, so all may use it.
void Engine::make_scratch() {
  size_t stride = 0;
  for (const auto &layer : layers_) stride = std::max(stride, scratch_bytes(*layer));
  stride = (stride + UF_SLACK + UF_ALIGNMENT - 1) / UF_ALIGNMENT * UF_ALIGNMENT;
  scratch_ = Buffer(stride * static_cast<size_t>(threads()));
  for (const auto &layer : layers_) {
    layer->node.scratch = scratch_.data();
    layer->node.scratch_stride = stride;
  }
}

// Memory between runs, for so many samples; all 0 at the start. Nothing is remembered when it grows.
void Engine::make_states(int64_t batch) {
  for (const auto &layer : layers_) {
    const size_t size = state_bytes(*layer) * static_cast<size_t>(batch);
    if (size > layer->state.size()) layer->state = Buffer(size);
    layer->node.state = reinterpret_cast<int16_t *>(layer->state.data());
  }
}

void Engine::reset() {
  const std::lock_guard<ForkSafeMutex> lock(in_use_);
  forget();
}

void Engine::forget() {
  for (const auto &layer : layers_) {
    if (layer->state.size() > 0) std::memset(layer->state.data(), 0, layer->state.size());
  }
  remembered_ = 0;
}

void Engine::prepare(int64_t batch) {
  if (in_use_.was_abandoned()) {  // in the middle of whatever it was
    profiling = false;
    batch_ = 0;
    forget();
  }
  if (remembered_ != 0 && batch != remembered_) {
    throw std::invalid_argument("the network remembers " + std::to_string(remembered_) +
                                " samples of the runs before: reset it before a batch of " + std::to_string(batch));
  }
  if (batch != batch_ || batch < 1) resize(batch);  // which refuses less than 1
}

void Engine::resize(int64_t batch) {
  if (batch < 1 || batch > INT32_MAX || batch > kMaxBytes / std::max<int64_t>(arena_bytes_per_sample_, 1)) {
    throw std::invalid_argument("the batch must hold at least 1 sample and fit the memory, found " +
                                std::to_string(batch));
  }
  batch_ = 0;  // where memory runs out on the way, the next call begins here again
  const auto size = static_cast<size_t>(arena_bytes_per_sample_ * batch);
  if (size > arena_.size()) {
    arena_ = Buffer();  // what it held is of no use: not two at a time
    arena_ = Buffer(size);
  }
  make_states(batch);
  for (Tensor &tensor : tensors_) {
    if (tensor.constant) continue;
    tensor.view.data = arena_.data() + tensor.arena_offset * batch;
    tensor.view.shape[0] = static_cast<int32_t>(batch);
  }
  batch_ = batch;
}

Engine::Memory Engine::memory() const {
  Memory memory = {remembered_, {}};
  for (const auto &layer : layers_) {
    const uint8_t *state = layer->state.data();
    memory.states.emplace_back(state, state + layer->state.size());
  }
  return memory;
}

void Engine::remember(const Memory &memory) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto &state = memory.states[i];
    if (!state.empty()) std::memcpy(layers_[i]->state.data(), state.data(), state.size());
  }
  remembered_ = memory.samples;
}

void Engine::run(const void *const *inputs, void *const *outputs) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Tensor &tensor = input(i);
    copy_codes(tensor.view.data, static_cast<const uint8_t *>(inputs[i]), byte_size(tensor), tensor.view.offset);
  }
  run();
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Tensor &tensor = output(i);
    copy_codes(static_cast<uint8_t *>(outputs[i]), tensor.view.data, byte_size(tensor), tensor.view.offset);
  }
}

bool Engine::run(const Enter &enter) {
  struct Context {
    Engine *engine;
    const Enter &enter;
    std::atomic<bool> refused{false};
  } context = {this, enter};
  const auto job = [](void *shared, int thread) {
    auto *with = static_cast<Context *>(shared);
    with->engine->run_layers(with->enter, thread, &with->refused);
  };
  pool_.run(job, &context);
  if (context.refused) return false;
  if (remembers_) remembered_ = batch_;
  if (profiling) collect_profile();
  return true;
}

void Engine::run_layers(const Enter &enter, int thread, std::atomic<bool> *refused) {
  const int threads = this->threads();
  if (enter) {
    if (!enter(thread, threads)) *refused = true;
    pool_.meet();
    if (*refused) return;
  }
  for (size_t i = 0; i < schedule_.size(); ++i) {
    if (i > 0) pool_.meet();
    if (profiling && thread == 0) stamps_[i] = now();
    schedule_[i]->kernel->run(&schedule_[i]->node, thread, threads);
  }
}

void Engine::collect_profile() {
  stamps_.back() = now();
  for (size_t i = 0; i < schedule_.size(); ++i) schedule_[i]->nanoseconds = stamps_[i + 1] - stamps_[i];
}

}  // namespace unfloat
