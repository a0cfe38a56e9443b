// CompactHandle: how is a file handle kept in little memory? FileHandle is made for the largest
// handle there is; most are much shorter.
#pragma once

#include <cstdint>
#include <cstring>

#include "journal/base/types.h"

namespace epochfs::fs {

class CompactHandle {
 public:
  CompactHandle() = default;
  CompactHandle(const CompactHandle&) = delete;
  CompactHandle& operator=(const CompactHandle&) = delete;
  ~CompactHandle() { clear(); }

  void set(const FileHandle& handle) {
    clear();
    type_ = handle.type;
    size_ = handle.size;
    if (size_ > sizeof inline_) outside_ = new uint8_t[size_];
    std::memcpy(bytes(), handle.bytes.data(), size_);
  }
  void clear() {
    if (size_ > sizeof inline_) delete[] outside_;
    size_ = 0;
  }
  FileHandle get() const {
    FileHandle handle;
    handle.type = type_;
    handle.size = size_;
    std::memcpy(handle.bytes.data(), bytes(), size_);
    return handle;
  }
  bool is(const FileHandle& handle) const {
    return type_ == handle.type && size_ == handle.size &&
           std::memcmp(bytes(), handle.bytes.data(), size_) == 0;
  }

 private:
  const uint8_t* bytes() const { return size_ > sizeof inline_ ? outside_ : inline_; }
  uint8_t* bytes() { return size_ > sizeof inline_ ? outside_ : inline_; }

  union {
    uint8_t inline_[24];
    uint8_t* outside_;
  };
  int32_t type_ = 0;
  uint8_t size_ = 0;
};

}  // namespace epochfs::fs
