#include "replicator/target/index/node.h"

#include <fmt/format.h>

#include <charconv>

namespace epochfs::replicator {
namespace {

template <typename T>
void append(std::string& out, const T& value) {
  static_assert(std::has_unique_object_representations_v<T>);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_bytes(std::string& out, std::string_view bytes) {
  append(out, uint64_t(bytes.size()));
  out.append(bytes);
}

tl::unexpected<Error> damaged(const char* what) {
  return fail(fmt::format("read {} of the target's index: the record is damaged", what), 0,
              ExitStatus::kCorrupt);
}

template <typename T>
bool take(std::string_view& in, T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (in.size() < sizeof value) return false;
  std::memcpy(static_cast<void*>(&value), in.data(), sizeof value);
  in.remove_prefix(sizeof value);
  return true;
}

bool take_bytes(std::string_view& in, std::string& out) {
  uint64_t size = 0;
  if (!take(in, size) || in.size() < size) return false;
  out.assign(in.substr(0, size));
  in.remove_prefix(size);
  return true;
}

}  // namespace

std::string encode_indexed(const IndexedNode& node) {
  std::string out;
  append(out, node);
  return out;
}

std::string encode_staged(const StagedNode& node) {
  std::string out;
  out.reserve(sizeof(StagedHead) + 32);
  append(out, static_cast<const StagedHead&>(node));
  append(out, uint64_t(node.finished));
  append_bytes(out, node.symlink_target);
  for (const Xattr& x : node.xattrs) {
    append_bytes(out, x.name);
    append_bytes(out, x.value);
  }
  return out;
}

std::string encode_range(const StagedRange& range) {
  std::string out;
  out.reserve(9 + range.bytes.size());
  append(out, range.kind);
  append(out, range.length);
  out.append(range.bytes);
  return out;
}

Result<IndexedNode> decode_indexed(std::string_view bytes) {
  IndexedNode node;
  if (!take(bytes, node) || !bytes.empty()) return damaged("a file");
  return node;
}

Result<StagedHead> decode_staged_head(std::string_view bytes) {
  StagedHead head;
  if (!take(bytes, head)) return damaged("a staged file");
  return head;
}

Result<StagedNode> decode_staged(std::string_view bytes) {
  StagedNode node;
  uint64_t finished = 0;
  if (!take(bytes, static_cast<StagedHead&>(node)) || !take(bytes, finished) ||
      !take_bytes(bytes, node.symlink_target)) {
    return damaged("a staged file");
  }
  node.finished = finished != 0;
  while (!bytes.empty()) {
    Xattr& x = node.xattrs.emplace_back();
    if (!take_bytes(bytes, x.name) || !take_bytes(bytes, x.value)) return damaged("a staged file");
  }
  return node;
}

Result<StagedRange> decode_range(std::string_view bytes) {
  StagedRange range;
  if (!take(bytes, range.kind) || !take(bytes, range.length)) return damaged("a staged range");
  if (range.kind == RangeKind::kInline && bytes.size() != range.length) {
    return damaged("a staged range");
  }
  range.bytes = bytes;
  return range;
}

std::string stage_name(FileId id) { return fmt::format("{:x}-{:x}", id.inode, id.birth_ns); }

bool parse_stage_name(std::string_view text, FileId& out) {
  const char* end = text.data() + text.size();
  auto [dash, code] = std::from_chars(text.data(), end, out.inode, 16);
  if (code != std::errc() || dash == end || *dash != '-') return false;
  auto [stop, code2] = std::from_chars(dash + 1, end, out.birth_ns, 16);
  return code2 == std::errc() && stop == end && stage_name(out) == text;
}

std::string inode_text(FileId id) { return fmt::format("inode {}", id.inode); }

}  // namespace epochfs::replicator
