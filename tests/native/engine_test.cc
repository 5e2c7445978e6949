// The engine's threads, for a build with UNFLOAT_SANITIZE=thread: a chain of layers in one arena, several engines at a
// time, growing and shrinking batches. The bytes must be those of one thread.

#include "engine/engine.h"

#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

using unfloat::Engine;
using unfloat::Instruction;
using unfloat::TensorSpec;

constexpr int64_t kSide = 14, kChannels = 24, kLayers = 6, kSize = kSide * kSide * kChannels;
constexpr int64_t kStride = (kSize + 63) / 64 * 64;

// Three by three maxima, again and again, between two places of the arena.
void make_chain(std::vector<TensorSpec> *tensors, std::vector<Instruction> *instructions) {
  for (int64_t i = 0; i <= kLayers; ++i) {
    tensors->push_back({{kSide, kSide, kChannels}, unfloat::DType::kInt8, i % 2 * kStride, nullptr});
    if (i == 0) continue;
    Instruction pool = {"max_pool2d", "pool" + std::to_string(i), {i - 1}, i, {}, {}};
    pool.attributes["kernel"] = std::vector<int64_t>{3, 3};
    pool.attributes["stride"] = std::vector<int64_t>{1, 1};
    pool.attributes["padding"] = std::vector<int64_t>{1, 1, 1, 1};
    instructions->push_back(pool);
  }
}

std::vector<int8_t> run(Engine *engine, int64_t batch) {
  std::vector<int8_t> input(static_cast<size_t>(batch * kSize)), output(input.size());
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<int8_t>(i * 2654435761u >> 13);
  const void *from[] = {input.data()};
  void *to[] = {output.data()};
  const Engine::Claim claim(*engine, batch);
  engine->run(from, to);
  return output;
}

int compare(int threads) {
  std::vector<TensorSpec> tensors;
  std::vector<Instruction> instructions;
  make_chain(&tensors, &instructions);
  Engine alone(tensors, instructions, {0}, {kLayers}, 2 * kStride, 1, "");
  Engine team(tensors, instructions, {0}, {kLayers}, 2 * kStride, threads, "");
  team.profiling = true;
  int failures = 0;
  for (int round = 0; round < 50; ++round) {
    const int64_t batch = 1 + round * 7 % 5;
    failures += run(&alone, batch) != run(&team, batch);
  }
  return failures;
}

}  // namespace

int main() {
  std::vector<std::thread> callers;
  std::vector<int> failures(4);
  for (size_t i = 0; i < failures.size(); ++i) {
    callers.emplace_back([&failures, i] { failures[i] = compare(static_cast<int>(i) + 1); });
  }
  int sum = 0;
  for (size_t i = 0; i < failures.size(); ++i) {
    callers[i].join();
    sum += failures[i];
  }
  std::printf("%d failures\n", sum);
  return sum == 0 ? 0 : 1;
}
