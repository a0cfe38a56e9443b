// StoredHandle: how is a file handle kept when there are ten million of them? FileHandle has room
// for the longest handle. This takes only what the handle needs: inline for ext4, XFS and tmpfs,
// on the heap for longer ones, such as those of btrfs.
#pragma once

#include <cstring>
#include <utility>

#include "journal/base/types.h"

namespace epochfs::journal {

class StoredHandle {
 public:
  StoredHandle() = default;
  StoredHandle(const FileHandle& h) : type_(h.type), size_(h.size) {
    char* to = bytes_;
    if (on_heap()) {
      to = new char[size_];
      std::memcpy(bytes_, &to, sizeof to);
    }
    std::memcpy(to, h.bytes.data(), size_);
  }
  StoredHandle(const StoredHandle& o) : StoredHandle(FileHandle(o)) {}
  StoredHandle(StoredHandle&& o) noexcept { swap(o); }
  StoredHandle& operator=(StoredHandle o) noexcept {
    swap(o);
    return *this;
  }
  ~StoredHandle() {
    if (on_heap()) delete[] data();
  }

  operator FileHandle() const {
    FileHandle h{.type = type_, .size = size_};
    std::memcpy(h.bytes.data(), data(), size_);
    return h;
  }
  explicit operator bool() const { return size_ != 0; }
  std::string_view view() const { return {data(), size_}; }
  bool operator==(const StoredHandle& o) const { return type_ == o.type_ && view() == o.view(); }
  bool operator==(const FileHandle& o) const { return type_ == o.type && view() == o.view(); }

 private:
  static constexpr size_t kInline = 15;

  bool on_heap() const { return size_ > kInline; }
  const char* data() const {
    if (!on_heap()) return bytes_;
    const char* heap;
    std::memcpy(&heap, bytes_, sizeof heap);
    return heap;
  }
  void swap(StoredHandle& o) noexcept {
    std::swap(type_, o.type_);
    std::swap(size_, o.size_);
    std::swap(bytes_, o.bytes_);
  }

  int32_t type_ = 0;
  uint8_t size_ = 0;
  char bytes_[kInline] = {};
};
static_assert(sizeof(StoredHandle) == 20);

}  // namespace epochfs::journal
