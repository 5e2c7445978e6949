// Random use of recorded Programs by several threads, for builds with sanitizers: engines are made, used by their own
// thread or by all of them, and dropped, until the time is over.
//
//   soak SECONDS THREADS FILE...

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>

#include "replay.h"

namespace {

using Clock = std::chrono::steady_clock;

// What the threads share: an engine that any of them may use or replace.
struct Shared {
  const std::vector<std::unique_ptr<replay::Recording>> &recordings;
  Clock::time_point end;
  std::mutex mutex;
  size_t which = 0;
  std::shared_ptr<unfloat::Engine> engine;
  std::atomic<int64_t> engines{0}, codes{0}, wrong{0};
};

class Worker {
 public:
  Worker(Shared *shared, unsigned seed) : shared_(shared), generator_(seed) {}

  void operator()() {
    while (Clock::now() < shared_->end) draw(4) == 0 ? use_shared() : use_own();
  }

 private:
  size_t draw(size_t count) { return std::uniform_int_distribution<size_t>(0, count - 1)(generator_); }

  std::unique_ptr<unfloat::Engine> make(size_t which) {
    const std::vector<std::string> levels = unfloat::available_levels();
    ++shared_->engines;
    return shared_->recordings[which]->engine(1 + static_cast<int>(draw(3)), levels[draw(levels.size())]);
  }

  void use(unfloat::Engine *engine, size_t which) {
    replay::Tally tally;
    const auto &cases = shared_->recordings[which]->cases();
    for (size_t runs = draw(4); runs > 0; --runs) replay::run(engine, cases[draw(cases.size())], &tally);
    shared_->codes += tally.codes;
    shared_->wrong += tally.wrong;
  }

  void use_own() {
    const size_t which = draw(shared_->recordings.size());
    const auto engine = make(which);
    use(engine.get(), which);
  }

  void use_shared() {
    std::shared_ptr<unfloat::Engine> engine;
    size_t which = 0;
    {
      const std::lock_guard<std::mutex> lock(shared_->mutex);
      if (shared_->engine == nullptr || draw(3) == 0) {
        shared_->which = draw(shared_->recordings.size());
        shared_->engine = make(shared_->which);
      }
      engine = shared_->engine;
      which = shared_->which;
    }
    use(engine.get(), which);
  }

  Shared *shared_;
  std::mt19937 generator_;
};

}  // namespace

int main(int argc, char **argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: soak SECONDS THREADS FILE...\n"), 2;
  std::vector<std::unique_ptr<replay::Recording>> recordings;
  for (int i = 3; i < argc; ++i) recordings.push_back(std::make_unique<replay::Recording>(argv[i]));
  Shared shared{recordings, Clock::now() + std::chrono::seconds(std::atoi(argv[1])), {}, 0, {}, {}, {}, {}};
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[2]); ++i) threads.emplace_back(Worker(&shared, static_cast<unsigned>(i)));
  for (std::thread &thread : threads) thread.join();
  std::printf("%lld engines, %lld codes, %lld mismatches\n", static_cast<long long>(shared.engines),
              static_cast<long long>(shared.codes), static_cast<long long>(shared.wrong));
  return shared.wrong == 0 ? 0 : 1;
}
