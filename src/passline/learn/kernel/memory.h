// Memory that is asked for again and again in the same sizes.

#ifndef PASSLINE_LEARN_KERNEL_MEMORY_H_
#define PASSLINE_LEARN_KERNEL_MEMORY_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace passline {

// Buffers that start at a cache line and are kept for the next time; their numbers are not set.
class Arena {
 public:
  // Takes back all that was given out.
  void restart() { next_ = 0; }

  template <typename T>
  T* take(size_t n) {
    const size_t n_bytes = (n * sizeof(T) + 63) / 64 * 64;
    if (next_ == buffers_.size()) buffers_.emplace_back();
    Buffer& buffer = buffers_[next_++];
    if (buffer.n_bytes < n_bytes) {
      buffer.n_bytes = 0;
      buffer.data.reset(std::aligned_alloc(64, n_bytes));
      if (buffer.data == nullptr) throw std::bad_alloc();
      buffer.n_bytes = n_bytes;
    }
    return static_cast<T*>(buffer.data.get());
  }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  struct Buffer {
    std::unique_ptr<void, Free> data;
    size_t n_bytes = 0;
  };
  std::vector<Buffer> buffers_;
  size_t next_ = 0;
};

}  // namespace passline

#endif  // PASSLINE_LEARN_KERNEL_MEMORY_H_
