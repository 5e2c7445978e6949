// Aligned memory with the slack that kernels may read past the end.

#ifndef UNFLOAT_ENGINE_BUFFER_H_
#define UNFLOAT_ENGINE_BUFFER_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "kernel.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace unfloat {

// `size` zeroed bytes, UF_ALIGNMENT-aligned, UF_SLACK readable bytes after them. `more` bytes behind these may be
// prefetched; nobody reads them, and but for the end of a page they take no memory.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size, size_t more = 0) : size_(size) {
    size < kHugePage / 2 ? allocate(more) : allocate_huge(more);
  }
  Buffer(const void *data, size_t size) : Buffer(size) {
    if (size > 0) std::memcpy(bytes_, data, size);
  }

  uint8_t *data() const { return bytes_; }
  size_t size() const { return size_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  void allocate(size_t more) {
    void *start = nullptr;
    if (posix_memalign(&start, UF_ALIGNMENT, size_ + UF_SLACK + more) != 0) throw std::bad_alloc();
    memory_.reset(start);
    bytes_ = static_cast<uint8_t *>(start);
    std::memset(bytes_, 0, size_ + UF_SLACK);
  }

  // Begins at a huge page's address and lies in such pages where the system has some: fewer misses of the address
  // cache, prefetchers, which stop at a page's end, run on, and first touches of 4 KiB each, which were a tenth of a
  // start, are few. An end of less than half such a page lies in small ones, so that at most 1 MiB is taken in vain.
  void allocate_huge(size_t more) {
    const size_t size = size_ + UF_SLACK, rest = size % kHugePage;
    const size_t huge = size - rest + (rest < kHugePage / 2 ? 0 : kHugePage);
    memory_.reset(std::calloc(std::max(size + more, huge) + kHugePage, 1));
    if (memory_ == nullptr) throw std::bad_alloc();
    const auto address = reinterpret_cast<uintptr_t>(memory_.get());
    bytes_ = static_cast<uint8_t *>(memory_.get()) + (kHugePage - address % kHugePage) % kHugePage;
#ifdef MADV_HUGEPAGE
    madvise(bytes_, huge, MADV_HUGEPAGE);  // advice, which may be refused
#endif
  }

  struct Release {
    void operator()(void *memory) const { std::free(memory); }
  };
  std::unique_ptr<void, Release> memory_;
  uint8_t *bytes_ = nullptr;  // in it
  size_t size_ = 0;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_BUFFER_H_
