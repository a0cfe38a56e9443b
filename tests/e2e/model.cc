#include "tests/e2e/model.h"
#include "tests/support/random.h"
#include "tests/support/tree.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <functional>

namespace epochfs::testing {
namespace {

using Kind = Operation::Kind;

constexpr uint64_t kBlock = ContentHash::kBlock;

}  // namespace

// ---- contents ----

void Content::write(uint64_t offset, std::string_view bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const uint64_t at = offset + done;
    const size_t part = std::min<size_t>(kBlock - at % kBlock, bytes.size() - done);
    std::string& block = blocks_[at / kBlock];
    block.resize(kBlock);
    bytes.substr(done, part).copy(&block[at % kBlock], part);
    done += part;
  }
  if (!bytes.empty()) size_ = std::max(size_, offset + bytes.size());
}

void Content::zero(uint64_t begin, uint64_t end) {
  auto at = blocks_.lower_bound(begin / kBlock);
  while (at != blocks_.end() && at->first * kBlock < end) {
    const uint64_t first = at->first * kBlock;
    const uint64_t from = std::max(begin, first) - first;
    const uint64_t to = std::min(end, first + kBlock) - first;
    std::fill(at->second.begin() + ptrdiff_t(from), at->second.begin() + ptrdiff_t(to), '\0');
    at = to - from == kBlock ? blocks_.erase(at) : std::next(at);
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
    const size_t part = std::min<size_t>(kBlock - at % kBlock, out.size() - done);
    if (auto block = blocks_.find(at / kBlock); block != blocks_.end()) {
      block->second.copy(&out[done], part, at % kBlock);
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

// ---- names ----

uint32_t Model::Node::type() const { return mode & S_IFMT; }
bool Model::Node::is_directory() const { return type() == S_IFDIR; }

Model::Model() : root_(std::make_shared<Node>()) { root_->mode = S_IFDIR | 0755; }

Model::Place Model::find(const std::string& path) const {
  Place place;
  place.node = root_;
  for (size_t at = 0; !path.empty() && at <= path.size();) {
    if (!place.node) return {.error = ENOENT};
    if (!place.node->is_directory()) return {.error = ENOTDIR};
    const size_t end = std::min(path.find('/', at), path.size());
    place.parent = place.node;
    place.ancestors.push_back(place.parent);
    place.name = path.substr(at, end - at);
    auto child = place.parent->children.find(place.name);
    place.node = child == place.parent->children.end() ? nullptr : child->second;
    at = end + 1;
  }
  return place;
}

Model::NodePointer Model::make(const Place& place, uint32_t mode) {
  auto node = std::make_shared<Node>();
  node->number = ++made_;
  node->mode = mode;
  if (place.parent->mode & S_ISGID) {
    node->gid = place.parent->gid;
    if (node->is_directory()) node->mode |= S_ISGID;
  }
  place.parent->children[place.name] = node;
  return node;
}

int Model::add(const Operation& o) {
  Place place = find(o.path);
  if (place.error) return place.error;
  if (place.node) return EEXIST;
  switch (o.kind) {
    case Kind::kMakeDirectory: make(place, S_IFDIR | o.mode); break;
    case Kind::kMakeNode: make(place, o.mode)->rdev = o.rdev; break;
    case Kind::kSymlink: make(place, S_IFLNK | 0777)->symlink_target = o.value; break;
    default: make(place, S_IFREG | o.mode)->content.write(0, bytes_of(o.seed, o.length));
  }
  return 0;
}

int Model::link(const Operation& o) {
  Place from = find(o.path), to = find(o.path2);
  if (from.error || !from.node) return from.error ? from.error : ENOENT;
  if (to.error) return to.error;
  if (to.node) return EEXIST;
  if (from.node->is_directory()) return EPERM;
  ++from.node->links;
  to.parent->children[to.name] = from.node;
  return 0;
}

int Model::remove(const Operation& o) {
  Place place = find(o.path);
  if (place.error || !place.node) return place.error ? place.error : ENOENT;
  const bool directory = o.kind == Kind::kRemoveDirectory;
  if (directory && !place.node->is_directory()) return ENOTDIR;
  if (!directory && place.node->is_directory()) return EISDIR;
  if (!place.node->children.empty()) return ENOTEMPTY;
  --place.node->links;
  place.parent->children.erase(place.name);
  return 0;
}

// The order of the checks is that of the kernel's do_renameat2() and vfs_rename().
int Model::rename(const Operation& o) {
  Place from = find(o.path), to = find(o.path2);
  if (from.error) return from.error;
  if (to.error) return to.error;
  const bool exchange = o.mode & RENAME_EXCHANGE;
  auto is_ancestor = [](const NodePointer& node, const Place& place) {
    return std::find(place.ancestors.begin(), place.ancestors.end(), node) != place.ancestors.end();
  };
  if (!from.node) return ENOENT;
  if ((o.mode & RENAME_NOREPLACE) && to.node) return EEXIST;
  if (exchange && !to.node) return ENOENT;
  if (is_ancestor(from.node, to)) return EINVAL;
  if (to.node && is_ancestor(to.node, from)) return exchange ? EINVAL : ENOTEMPTY;
  if (from.node == to.node) return 0;
  if (to.node && !exchange) {
    if (from.node->is_directory() && !to.node->is_directory()) return ENOTDIR;
    if (!from.node->is_directory() && to.node->is_directory()) return EISDIR;
    if (!to.node->children.empty()) return ENOTEMPTY;
    --to.node->links;
  }
  to.parent->children[to.name] = from.node;
  if (exchange) {
    from.parent->children[from.name] = to.node;
  } else {
    from.parent->children.erase(from.name);
  }
  return 0;
}

// ---- what a file is ----

int Model::change_content(const Operation& o, Node& node) {
  const uint64_t end = o.offset + o.length;
  Content& content = node.content;
  switch (o.kind) {
    case Kind::kWrite:
    case Kind::kMapWrite: content.write(o.offset, bytes_of(o.seed, o.length)); break;
    case Kind::kAppend: content.write(content.size(), bytes_of(o.seed, o.length)); break;
    case Kind::kTruncate: content.truncate(o.length); break;
    default:  // kAllocate
      if (o.mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) content.zero(o.offset, end);
      if (!(o.mode & FALLOC_FL_KEEP_SIZE)) content.truncate(std::max(content.size(), end));
  }
  return 0;
}

int Model::copy_range(const Operation& o) {
  Place from = find(o.path), to = find(o.path2);
  if (!from.node || !to.node) return ENOENT;
  to.node->content.write(o.offset2, from.node->content.read(o.offset, o.length));
  return 0;
}

int Model::change_attributes(const Operation& o, Node& node) {
  switch (o.kind) {
    case Kind::kChangeMode: node.mode = node.type() | (o.mode & 07777); return 0;
    case Kind::kChangeOwner:
      node.uid = o.uid;
      node.gid = o.gid;
      if (node.is_directory()) return 0;
      node.mode &= ~uint32_t(S_ISUID);
      if (node.mode & S_IXGRP) node.mode &= ~uint32_t(S_ISGID);
      return 0;
    case Kind::kChangeTimes: return 0;
    case Kind::kSetXattr: node.xattrs[o.name] = o.value; return 0;
    default: return node.xattrs.erase(o.name) ? 0 : ENODATA;  // kRemoveXattr
  }
}

int Model::apply(const Operation& o) {
  switch (o.kind) {
    case Kind::kCreate:
    case Kind::kTemporary:
    case Kind::kMakeDirectory:
    case Kind::kMakeNode:
    case Kind::kSymlink: return add(o);
    case Kind::kLink: return link(o);
    case Kind::kUnlink:
    case Kind::kRemoveDirectory: return remove(o);
    case Kind::kRename: return rename(o);
    case Kind::kCopyRange: return copy_range(o);
    default: break;
  }
  Place place = find(o.path);
  if (place.error || !place.node) return place.error ? place.error : ENOENT;
  switch (o.kind) {
    case Kind::kWrite:
    case Kind::kAppend:
    case Kind::kMapWrite:
    case Kind::kTruncate:
    case Kind::kAllocate: return change_content(o, *place.node);
    default: return change_attributes(o, *place.node);
  }
}

// ---- looking at it ----

TreeSnapshot Model::snapshot() const {
  TreeSnapshot out;
  std::map<const Node*, std::string> first_names;
  const std::function<void(const Node&, const std::string&)> add = [&](const Node& node,
                                                                       const std::string& path) {
    TreeEntry& entry = out[path.empty() ? "." : path];
    entry = {.mode = node.mode,
             .uid = node.uid,
             .gid = node.gid,
             .rdev = node.rdev,
             .symlink_target = node.symlink_target,
             .xattrs = node.xattrs};
    if (!node.is_directory()) entry.links = node.links;
    if (node.type() == S_IFREG) entry.size = node.content.size();
    if (node.type() == S_IFREG) entry.content_hash = node.content.hash();
    if (node.type() == S_IFLNK) entry.size = node.symlink_target.size();
    for (const auto& [name, child] : node.children) {
      const std::string below = path.empty() ? name : path + "/" + name;
      add(*child, below);
      if (child->links < 2) continue;
      auto [first, added] = first_names.try_emplace(child.get(), below);
      if (!added) first->second = std::min(first->second, below);
    }
  };
  add(*root_, "");
  for (const Listed& file : list()) {
    const Place place = find(file.path);
    auto first = first_names.find(place.node.get());
    if (first != first_names.end()) out[file.path].link_name = first->second;
  }
  return out;
}

std::vector<Model::Listed> Model::list() const {
  std::vector<Listed> out;
  list_below(*root_, "", out);
  return out;
}

void Model::list_below(const Node& node, const std::string& path, std::vector<Listed>& out) {
  for (const auto& [name, child] : node.children) {
    Listed listed{.path = path.empty() ? name : path + "/" + name,
                  .type = child->type(),
                  .size = child->content.size(),
                  .node = child->number,
                  .empty = child->children.empty()};
    for (const auto& [xattr, value] : child->xattrs) listed.xattrs.push_back(xattr);
    out.push_back(listed);
    if (child->is_directory()) list_below(*child, listed.path, out);
  }
}

}  // namespace epochfs::testing
