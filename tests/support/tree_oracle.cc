#include "tests/support/tree_oracle.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "tests/support/failure.h"

namespace epochfs::testing {
namespace {

void must_succeed(int error, const char* what, const std::string& name) {
  if (error) throw Failure(std::string(what) + " " + name + ": " + std::strerror(error));
}

}  // namespace

uint32_t OracleFile::type() const { return attributes.mode & S_IFMT; }
bool OracleFile::is_dir() const { return type() == S_IFDIR; }
bool OracleFile::is_reg() const { return type() == S_IFREG; }
bool OracleFile::is_symlink() const { return type() == S_IFLNK; }

TreeOracle::TreeOracle() { add(root, S_IFDIR | 0755); }

// ---- looking ----

FileId TreeOracle::lookup(const OracleName& name) const {
  auto directory = files.find(name.directory);
  if (directory == files.end()) return {};
  auto child = directory->second.children.find(name.name);
  return child == directory->second.children.end() ? FileId{} : child->second;
}

FileId TreeOracle::find(const std::string& path) const {
  FileId id = root;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    id = at(id).children.at(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return id;
}

bool TreeOracle::is_below(FileId id, FileId top) const {
  while (id && id != top) id = at(id).parent;
  return bool(id);
}

TreeSnapshot TreeOracle::snapshot() const {
  TreeSnapshot out;
  std::map<FileId, std::vector<std::string>> paths;  // of files with several
  const std::function<void(FileId, const std::string&)> add = [&](FileId id,
                                                                  const std::string& path) {
    const OracleFile& file = at(id);
    const OracleAttributes& a = file.attributes;
    TreeEntry& entry = out[path.empty() ? "." : path];
    entry = {.mode = a.mode,
             .uid = a.uid,
             .gid = a.gid,
             .mtime_ns = a.mtime.seconds * 1'000'000'000 + a.mtime.nanos,
             .rdev = a.rdev,
             .symlink_target = file.symlink_target,
             .xattrs = file.xattrs};
    if (!file.is_dir()) entry.links = file.links;
    if (file.is_reg()) entry.size = file.data.size();
    if (file.is_reg()) entry.content_hash = file.data.hash();
    if (file.is_symlink()) entry.size = file.symlink_target.size();
    if (file.links > 1) paths[id].push_back(path);
    for (const auto& [name, child] : file.children) {
      add(child, path.empty() ? name : path + "/" + name);
    }
  };
  add(root, "");
  for (const auto& [id, of_one] : paths) {
    const std::string& first = *std::min_element(of_one.begin(), of_one.end());
    for (const std::string& path : of_one) out[path].link_name = first;
  }
  return out;
}

// ---- names ----

OracleTime TreeOracle::now() const {
  return {int64_t(1'700'000'000 + lsn), int64_t(lsn * 7919 % 1'000'000'000)};
}

OracleFile& TreeOracle::add(FileId id, uint32_t mode) {
  OracleFile& file = files[id] = OracleFile{};
  file.attributes.mode = mode;
  file.born = file.version = ++lsn;
  file.attributes.atime = now();
  touch(id);
  return file;
}

FileId TreeOracle::identity_or_new(FileId identity) {
  return identity ? identity : FileId{next_inode++, 1000 + lsn};
}

int TreeOracle::check_vacant(const OracleName& name) const {
  if (!has(name.directory)) return ENOENT;
  if (!at(name.directory).is_dir()) return ENOTDIR;
  return lookup(name) ? EEXIST : 0;
}

void TreeOracle::put(FileId id, const OracleName& name) {
  at(name.directory).children[name.name] = id;
  if (at(id).is_dir()) at(id).parent = name.directory;
  touch(name.directory);
}

void TreeOracle::lose_name(FileId id) {
  if (--at(id).links == 0 && !at(id).held) files.erase(id);
}

void TreeOracle::release(FileId id) {
  at(id).held = false;
  if (at(id).links == 0) files.erase(id);
}

int TreeOracle::make(const OracleName& name, uint32_t mode, FileId* made, FileId identity) {
  if (const int error = check_vacant(name)) return error;
  const FileId id = identity_or_new(identity);
  OracleFile& file = add(id, mode);
  file.links = 1;
  const OracleAttributes& parent = at(name.directory).attributes;
  if (parent.mode & S_ISGID) {
    file.attributes.gid = parent.gid;
    if (file.is_dir()) file.attributes.mode |= S_ISGID;
  }
  put(id, name);
  if (made) *made = id;
  return 0;
}

FileId TreeOracle::make_temporary(uint32_t mode, FileId identity) {
  const FileId id = identity_or_new(identity);
  OracleFile& file = add(id, mode);
  file.held = file.linkable = true;
  return id;
}

int TreeOracle::add_link(FileId id, const OracleName& name) {
  if (const int error = check_vacant(name)) return error;
  OracleFile& file = at(id);
  if (file.is_dir()) return EPERM;
  if (file.links == 0 && !file.linkable) return ENOENT;
  file.linkable = false;
  ++file.links;
  changed(id);
  put(id, name);
  return 0;
}

int TreeOracle::remove(const OracleName& name, bool directory) {
  const FileId id = lookup(name);
  if (!id) return ENOENT;
  if (directory && !at(id).is_dir()) return ENOTDIR;
  if (!directory && at(id).is_dir()) return EISDIR;
  if (!at(id).children.empty()) return ENOTEMPTY;
  ++lsn;
  at(name.directory).children.erase(name.name);
  touch(name.directory);
  lose_name(id);
  return 0;
}

int TreeOracle::remove_file(const OracleName& name) { return remove(name, false); }
int TreeOracle::remove_directory(const OracleName& name) { return remove(name, true); }

// The order of the checks is that of the kernel's do_renameat2() and vfs_rename().
int TreeOracle::move(const OracleName& from, const OracleName& to, uint32_t flags) {
  const bool exchange = flags & RENAME_EXCHANGE;
  if (!has(to.directory)) return ENOENT;
  if (!at(to.directory).is_dir()) return ENOTDIR;
  const FileId id = lookup(from), other = lookup(to);
  if (!id) return ENOENT;
  if ((flags & RENAME_NOREPLACE) && other) return EEXIST;
  if (exchange && !other) return ENOENT;
  if (is_below(to.directory, id)) return EINVAL;
  if (other && is_below(from.directory, other)) return exchange ? EINVAL : ENOTEMPTY;
  if (id == other) return 0;
  if (other && !exchange) {
    if (at(id).is_dir() && !at(other).is_dir()) return ENOTDIR;
    if (!at(id).is_dir() && at(other).is_dir()) return EISDIR;
    if (!at(other).children.empty()) return ENOTEMPTY;
  }
  changed(id);
  at(from.directory).children.erase(from.name);
  touch(from.directory);
  put(id, to);
  if (exchange) {
    at(other).attributes.ctime = now();
    put(other, from);
  } else if (other) {
    lose_name(other);
  }
  return 0;
}

// ---- by hand ----

FileId TreeOracle::create(FileId parent, const std::string& name, uint32_t mode, FileId identity) {
  FileId made;
  must_succeed(make({parent, name}, mode, &made, identity), "create", name);
  return made;
}

FileId TreeOracle::symlink(FileId parent, const std::string& name, const std::string& target) {
  const FileId id = create(parent, name, S_IFLNK | 0777);
  at(id).symlink_target = target;
  return id;
}

void TreeOracle::link(FileId id, FileId parent, const std::string& name) {
  must_succeed(add_link(id, {parent, name}), "link", name);
}

void TreeOracle::unlink(FileId parent, const std::string& name) {
  const FileId id = lookup({parent, name});
  must_succeed(remove({parent, name}, id && at(id).is_dir()), "unlink", name);
}

void TreeOracle::remove_tree(FileId parent, const std::string& name) {
  const FileId id = lookup({parent, name});
  while (id && !at(id).children.empty()) remove_tree(id, at(id).children.begin()->first);
  unlink(parent, name);
}

void TreeOracle::rename(FileId from, const std::string& name, FileId to,
                        const std::string& new_name) {
  must_succeed(move({from, name}, {to, new_name}, 0), "rename", name);
}

void TreeOracle::exchange(FileId a, const std::string& name, FileId b, const std::string& name2) {
  must_succeed(move({a, name}, {b, name2}, RENAME_EXCHANGE), "exchange", name);
}

// ---- bytes ----

OracleFile& TreeOracle::written(FileId id) {
  at(id).version = ++lsn;
  touch(id);
  return at(id);
}

void TreeOracle::write(FileId id, uint64_t offset, std::string_view bytes) {
  written(id).data.write(offset, bytes);
}

void TreeOracle::truncate(FileId id, uint64_t size) { written(id).data.truncate(size); }

void TreeOracle::allocate(FileId id, uint64_t begin, uint64_t end, int mode) {
  Content& data = written(id).data;
  if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) data.zero(begin, end);
  if (!(mode & FALLOC_FL_KEEP_SIZE)) data.truncate(std::max(data.size(), end));
}

// ---- attributes ----

OracleFile& TreeOracle::changed(FileId id) {
  ++lsn;
  at(id).attributes.ctime = now();
  return at(id);
}

void TreeOracle::set_mode(FileId id, uint32_t permissions) {
  OracleFile& file = changed(id);
  file.attributes.mode = file.type() | (permissions & 07777);
}

void TreeOracle::set_owner(FileId id, uint32_t uid, uint32_t gid) {
  OracleFile& file = changed(id);
  OracleAttributes& a = file.attributes;
  a.uid = uid;
  a.gid = gid;
  if (file.is_dir()) return;
  a.mode &= ~uint32_t(S_ISUID);
  if (a.mode & S_IXGRP) a.mode &= ~uint32_t(S_ISGID);
}

void TreeOracle::set_mtime(FileId id, OracleTime mtime) { changed(id).attributes.mtime = mtime; }

void TreeOracle::set_xattr(FileId id, const std::string& name, const std::string& value) {
  changed(id).xattrs[name] = value;
}

int TreeOracle::remove_xattr(FileId id, const std::string& name) {
  if (!at(id).xattrs.count(name)) return ENODATA;
  changed(id).xattrs.erase(name);
  return 0;
}

}  // namespace epochfs::testing
