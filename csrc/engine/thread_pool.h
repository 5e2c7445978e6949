// A fixed team of threads that meet at barriers. No allocation and, unless a thread has to be parked, no lock.

#ifndef UNFLOAT_ENGINE_THREAD_POOL_H_
#define UNFLOAT_ENGINE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace unfloat {

// How many forks lie between this process and the one that loaded the library.
unsigned forks_so_far();

// Where `count` threads wait for each other: they spin for some microseconds, then sleep.
class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}

  void wait();

  // Lowers the count; only while the caller has not arrived and the others cannot be complete without it.
  void shrink(int count) { count_.store(count); }

 private:
  void park(uint32_t phase);

  std::atomic<int> count_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<int> parked_{0};
  std::mutex mutex_;
  std::condition_variable opened_;
};

// A mutex that a forked process finds free, whoever held it in the one before.
class ForkSafeMutex {
 public:
  void lock() { current().lock(); }
  void unlock() { current().unlock(); }

  // Locked: whether the process was forked while another thread, which is no more, was at work under this mutex. Once.
  bool was_abandoned() { return abandoned_.exchange(false); }

 private:
  std::mutex &current();

  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  std::atomic<unsigned> forks_ = forks_so_far();
  std::atomic<bool> abandoned_{false};
};

class ThreadPool {
 public:
  // A plain function and its argument, so that starting a job allocates nothing.
  using Job = void (*)(void *context, int thread);

  // The caller of run() is thread 0; `threads - 1` more are started. Throws std::invalid_argument where that is too few
  // or too many.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls job(context, t) on every thread t at the same time and returns when all have returned. In a process forked
  // from the one that started them, where workers are no more, others are started first.
  void run(Job job, void *context);

  // Inside a job: waits until every thread has come here.
  void meet() {
    if (!workers_.empty()) barrier_->wait();
  }

 private:
  void start(int threads);
  void work(int thread);
  void stop();
  void leave_behind();

  unsigned forks_;  // of the process, when the workers were started
  std::unique_ptr<Barrier> barrier_;
  Job job_ = nullptr;  // null tells the workers to end
  void *context_ = nullptr;
  std::vector<std::thread> workers_;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_THREAD_POOL_H_
