// Aligned memory with the slack that kernels may read past the end.

#ifndef UNFLOAT_ENGINE_BUFFER_H_
#define UNFLOAT_ENGINE_BUFFER_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#include "kernel.h"

namespace unfloat {

// `size` zeroed bytes, UF_ALIGNMENT-aligned, UF_SLACK readable bytes after them.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t size)
      : bytes_(static_cast<uint8_t *>(::operator new(size + UF_SLACK, std::align_val_t{UF_ALIGNMENT}))), size_(size) {
    std::memset(bytes_.get(), 0, size + UF_SLACK);
  }
  Buffer(const void *data, size_t size) : Buffer(size) {
    if (size > 0) std::memcpy(bytes_.get(), data, size);
  }

  uint8_t *data() const { return bytes_.get(); }
  size_t size() const { return size_; }

 private:
  struct Release {
    void operator()(uint8_t *bytes) const { ::operator delete(bytes, std::align_val_t{UF_ALIGNMENT}); }
  };
  std::unique_ptr<uint8_t, Release> bytes_;
  size_t size_ = 0;
};

}  // namespace unfloat

#endif  // UNFLOAT_ENGINE_BUFFER_H_
