// A Program compiled for this machine: kernels chosen, weights packed, memory planned.

#ifndef UNFLOAT_ENGINE_ENGINE_H_
#define UNFLOAT_ENGINE_ENGINE_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "layer.h"
#include "thread_pool.h"

namespace unfloat {

class Engine {
 public:
  // `inputs` and `outputs` are indices of activations. The arrays that the arguments refer to may go afterwards.
  // Throws std::invalid_argument with the place and the reason where anything does not fit.
  Engine(const std::vector<TensorSpec> &tensors, const std::vector<Instruction> &instructions,
         std::vector<int64_t> inputs, std::vector<int64_t> outputs, int64_t arena_bytes_per_sample, int threads,
         const std::string &level);

  // Has the engine to itself until it dies: waits until no other thread uses it, then prepares for `batch` samples
  // (allocates only where it is larger than ever before).
  class Claim {
   public:
    Claim(Engine &engine, int64_t batch) : lock_(engine.in_use_) { engine.prepare(batch); }

   private:
    std::unique_lock<ForkSafeMutex> lock_;
  };

  // Codes in, codes out; as many pointers as inputs and outputs, each to batch * sample_size bytes. Under a Claim only.
  void run(const void *const *inputs, void *const *outputs);

  // The same on what lies in the arena: the inputs' views and the outputs'. Every thread first calls `enter`, which may
  // fill its share of the inputs' views, and says whether that is to be run on. Where one says no, nothing is run,
  // nothing remembered, and the result is false.
  using Enter = std::function<bool(int thread, int threads)>;
  bool run(const Enter &enter = nullptr);

  // Forgets what earlier runs left to the next; the next batch may be of any size.
  void reset();

  // Of how many samples it remembers anything: the next batch must be as large. 0 where that is free.
  int64_t remembered() const { return remembered_; }

  // What earlier runs left to the next, and to have it again. Under one Claim only.
  struct Memory {
    int64_t samples;
    std::vector<std::vector<uint8_t>> states;  // of each layer
  };
  Memory memory() const;
  void remember(const Memory &memory);

  size_t input_count() const { return inputs_.size(); }
  size_t output_count() const { return outputs_.size(); }
  const Tensor &input(size_t index) const { return tensors_[static_cast<size_t>(inputs_[index])]; }
  const Tensor &output(size_t index) const { return tensors_[static_cast<size_t>(outputs_[index])]; }
  const std::vector<std::unique_ptr<Layer>> &layers() const { return layers_; }
  int threads() const { return pool_.threads(); }

  bool profiling = false;  // whether run() fills each layer's nanoseconds; to be read and changed under a Claim

 private:
  void prepare_layers(uf_level level);
  void make_schedule();
  void add_tensor(const TensorSpec &spec, int64_t arena_bytes_per_sample);
  void check_ports() const;
  void make_scratch();
  void prepare(int64_t batch);
  void forget();
  void resize(int64_t batch);
  void make_states(int64_t batch);
  void run_layers(const Enter &enter, int thread, std::atomic<bool> *refused);
  void collect_profile();

  std::vector<Tensor> tensors_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<Layer *> schedule_;  // those that no other runs
  std::vector<int64_t> inputs_, outputs_;
  int64_t arena_bytes_per_sample_;
  int64_t batch_ = 0;
  bool remembers_ = false;  // whether any layer does
  std::atomic<int64_t> remembered_{0};
  Buffer packed_, arena_, scratch_;
  ThreadPool pool_;
  std::vector<int64_t> stamps_;  // when each layer of the schedule began, and the end
  ForkSafeMutex in_use_;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_ENGINE_H_
