#include "tests/support/content.h"

#include <xxhash.h>

#include <algorithm>

namespace epochfs::testing {
namespace {

constexpr uint64_t kBlock = ContentHash::kBlock;

std::string_view without_zeros_at_the_end(std::string_view bytes) {
  return bytes.substr(0, bytes.find_last_not_of('\0') + 1);
}

}  // namespace

void ContentHash::add(uint64_t offset, std::string_view block) {
  // A block that the end of the file cuts short hashes like one with zeros behind it.
  const std::string_view used = without_zeros_at_the_end(block);
  if (used.empty()) return;
  hash_ = XXH3_64bits_withSeed(&offset, sizeof offset, hash_);
  hash_ = XXH3_64bits_withSeed(used.data(), used.size(), hash_);
}

void Content::write(uint64_t offset, std::string_view bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const uint64_t at = offset + done;
    const size_t within = at % kBlock;
    const size_t part = std::min<size_t>(kBlock - within, bytes.size() - done);
    std::string& block = blocks_[at / kBlock];
    block.resize(std::max(block.size(), within + part));
    bytes.substr(done, part).copy(&block[within], part);
    done += part;
  }
  if (!bytes.empty()) size_ = std::max(size_, offset + bytes.size());
}

void Content::zero(uint64_t begin, uint64_t end) {
  auto at = blocks_.lower_bound(begin / kBlock);
  while (at != blocks_.end() && at->first * kBlock < end) {
    std::string& block = at->second;
    const uint64_t first = at->first * kBlock;
    const uint64_t from = std::max(begin, first) - first;
    const uint64_t to = std::min(end - first, block.size());
    if (from == 0 && to == block.size()) {
      at = blocks_.erase(at);
      continue;
    }
    if (from < to) std::fill_n(block.begin() + ptrdiff_t(from), to - from, '\0');
    ++at;
  }
}

void Content::truncate(uint64_t size) {
  if (size < size_) zero(size, size_);
  size_ = size;
}

std::string Content::read(uint64_t offset, uint64_t length) const {
  if (offset >= size_) return "";
  std::string out(std::min(length, size_ - offset), '\0');
  for (size_t done = 0; done < out.size();) {
    const uint64_t at = offset + done;
    const size_t within = at % kBlock;
    const size_t part = std::min<size_t>(kBlock - within, out.size() - done);
    auto block = blocks_.find(at / kBlock);
    if (block != blocks_.end() && within < block->second.size()) {
      block->second.copy(&out[done], part, within);
    }
    done += part;
  }
  return out;
}

uint64_t Content::hash() const {
  ContentHash hash;
  for (const auto& [number, block] : blocks_) hash.add(number * kBlock, block);
  return hash.value();
}

std::string_view Content::block(uint64_t number) const {
  auto at = blocks_.find(number);
  return at == blocks_.end() ? std::string_view() : without_zeros_at_the_end(at->second);
}

bool Content::operator==(const Content& other) const {
  if (size_ != other.size_) return false;
  auto same = [&](const auto& entry) { return block(entry.first) == other.block(entry.first); };
  return std::all_of(blocks_.begin(), blocks_.end(), same) &&
         std::all_of(other.blocks_.begin(), other.blocks_.end(), same);
}

}  // namespace epochfs::testing
