#include "thread_pool.h"

#include <stdexcept>
#include <string>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif

namespace unfloat {
namespace {

// About the time between two layers or two calls in a loop; longer waits should give the core to others.
constexpr int kSpins = 4000;
constexpr int kMaxThreads = 1024;

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

std::atomic<unsigned> forks{0};
std::mutex *exchanging = new std::mutex;  // held while a mutex takes another's place

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int counting = pthread_atfork(nullptr, nullptr, [] {
  forks.fetch_add(1);
  exchanging = new std::mutex;  // who knows who held it
});
#endif

}  // namespace

unsigned forks_so_far() { return forks.load(); }

// The mutex of a thread that is no more cannot be taken down: the few bytes are lost.
std::mutex &ForkSafeMutex::current() {
  if (forks_.load() != forks.load()) {
    const std::lock_guard<std::mutex> lock(*exchanging);
    if (forks_.load() != forks.load()) {
      if (mutex_->try_lock()) {
        mutex_->unlock();
      } else {
        static_cast<void>(mutex_.release());
        mutex_ = std::make_unique<std::mutex>();
        abandoned_ = true;
      }
      forks_ = forks.load();
    }
  }
  return *mutex_;
}

void Barrier::wait() {
  const uint32_t phase = phase_.load();
  if (arrived_.fetch_add(1) + 1 == count_.load()) {
    arrived_.store(0);
    phase_.store(phase + 1);
    // A thread parks after raising parked_ and finding the old phase; so either it sees the new one or we see it.
    if (parked_.load() > 0) {
      mutex_.lock();  // whoever is about to sleep holds it until then
      mutex_.unlock();
      opened_.notify_all();
    }
    return;
  }
  for (int spin = 0; spin < kSpins; ++spin) {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    relax();
  }
  park(phase);
}

void Barrier::park(uint32_t phase) {
  std::unique_lock<std::mutex> lock(mutex_);
  parked_.fetch_add(1);
  opened_.wait(lock, [&] { return phase_.load() != phase; });
  parked_.fetch_sub(1);
}

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > kMaxThreads) {
    throw std::invalid_argument("threads must lie in [1, " + std::to_string(kMaxThreads) + "], found " +
                                std::to_string(threads));
  }
  start(threads);
}

ThreadPool::~ThreadPool() {
  if (forks_ != forks.load()) leave_behind();
  stop();
}

void ThreadPool::start(int threads) {
  forks_ = forks.load();
  barrier_ = std::make_unique<Barrier>(threads);
  workers_.reserve(static_cast<size_t>(threads - 1));
  try {
    for (int thread = 1; thread < threads; ++thread) workers_.emplace_back(&ThreadPool::work, this, thread);
  } catch (...) {
    barrier_->shrink(this->threads());
    stop();
    throw;
  }
}

void ThreadPool::run(Job job, void *context) {
  if (workers_.empty()) return job(context, 0);
  if (forks_ != forks.load()) {
    const int threads = this->threads();
    leave_behind();
    start(threads);
  }
  job_ = job;
  context_ = context;
  barrier_->wait();  // the start: workers wait here between jobs
  job(context, 0);
  barrier_->wait();  // the end
}

void ThreadPool::work(int thread) {
  for (;;) {
    barrier_->wait();
    if (job_ == nullptr) return;
    job_(context_, thread);
    barrier_->wait();
  }
}

void ThreadPool::stop() {
  if (workers_.empty()) return;
  job_ = nullptr;
  barrier_->wait();
  for (std::thread &worker : workers_) worker.join();
  workers_.clear();
}

// In a forked process: threads that are no more can be neither joined nor waited for, and what they slept on never be
// taken down. The few bytes are lost.
void ThreadPool::leave_behind() {
  static_cast<void>(barrier_.release());
  new std::vector<std::thread>(std::move(workers_));
  workers_.clear();
}

}  // namespace unfloat
