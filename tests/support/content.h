// Content: what are the bytes of a file, however large and sparse it is? Content holds them
// in memory. ContentHash tells whether two files hold the same bytes, wherever their holes
// are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace epochfs::testing {

// Blocks are added at multiples of kBlock, in order. What is not added is zeros.
class ContentHash {
 public:
  static constexpr size_t kBlock = 4096;
  void add(uint64_t offset, std::string_view block);  // at most kBlock bytes
  uint64_t value() const { return hash_; }

 private:
  uint64_t hash_ = 0;
};

class Content {
 public:
  uint64_t size() const { return size_; }
  void write(uint64_t offset, std::string_view bytes);
  void truncate(uint64_t size);
  void zero(uint64_t begin, uint64_t end);  // does not change the size
  // Fewer bytes than `length` at the end.
  std::string read(uint64_t offset, uint64_t length) const;
  std::string all() const { return read(0, size_); }
  uint64_t hash() const;
  bool operator==(const Content& other) const;  // the same bytes

 private:
  std::string_view block(uint64_t number) const;  // without the zeros at its end

  uint64_t size_ = 0;
  // By number, of at most ContentHash::kBlock bytes. Behind them are zeros.
  std::map<uint64_t, std::string> blocks_;
};

}  // namespace epochfs::testing
