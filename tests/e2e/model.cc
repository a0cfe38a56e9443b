#include "tests/e2e/model.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

using Kind = Operation::Kind;

}  // namespace

int Model::Place::missing() const {
  if (error) return error;
  return file ? 0 : ENOENT;
}

Model::Place Model::find(const std::string& path) const {
  Place place{.name = {}, .file = tree_.root};
  for (size_t at = 0; !path.empty() && at <= path.size();) {
    if (!place.file) return {.error = ENOENT, .name = {}, .file = {}};
    if (!tree_.at(place.file).is_dir()) return {.error = ENOTDIR, .name = {}, .file = {}};
    const size_t end = std::min(path.find('/', at), path.size());
    place.name = {place.file, path.substr(at, end - at)};
    place.file = tree_.lookup(place.name);
    at = end + 1;
  }
  return place;
}

int Model::add(const Operation& o) {
  const Place place = find(o.path);
  if (place.error) return place.error;
  if (place.file) return EEXIST;
  FileId made;
  auto make = [&](uint32_t mode) { return tree_.make(place.name, mode, &made); };
  switch (o.kind) {
    case Kind::kMakeDirectory: return make(S_IFDIR | o.mode);
    case Kind::kMakeNode:
      if (const int error = make(o.mode)) return error;
      tree_.at(made).attributes.rdev = o.rdev;
      return 0;
    case Kind::kSymlink:
      if (const int error = make(S_IFLNK | 0777)) return error;
      tree_.at(made).symlink_target = o.value;
      return 0;
    default:
      if (const int error = make(S_IFREG | o.mode)) return error;
      tree_.write(made, 0, bytes_of(o.seed, o.length));
      return 0;
  }
}

int Model::change_content(const Operation& o, FileId file) {
  switch (o.kind) {
    case Kind::kWrite:
    case Kind::kMapWrite: tree_.write(file, o.offset, bytes_of(o.seed, o.length)); break;
    case Kind::kAppend:
      tree_.write(file, tree_.at(file).data.size(), bytes_of(o.seed, o.length));
      break;
    case Kind::kTruncate: tree_.truncate(file, o.length); break;
    default: tree_.allocate(file, o.offset, o.offset + o.length, int(o.mode));  // kAllocate
  }
  return 0;
}

int Model::copy_range(const Operation& o) {
  const Place from = find(o.path), to = find(o.path2);
  if (!from.file || !to.file) return ENOENT;
  tree_.write(to.file, o.offset2, tree_.at(from.file).data.read(o.offset, o.length));
  return 0;
}

int Model::change_attributes(const Operation& o, FileId file) {
  switch (o.kind) {
    case Kind::kChangeMode: tree_.set_mode(file, o.mode); return 0;
    case Kind::kChangeOwner: tree_.set_owner(file, o.uid, o.gid); return 0;
    case Kind::kChangeTimes: return 0;
    case Kind::kSetXattr: tree_.set_xattr(file, o.name, o.value); return 0;
    default: return tree_.remove_xattr(file, o.name);  // kRemoveXattr
  }
}

int Model::apply(const Operation& o) {
  switch (o.kind) {
    case Kind::kCreate:
    case Kind::kTemporary:
    case Kind::kMakeDirectory:
    case Kind::kMakeNode:
    case Kind::kSymlink: return add(o);
    case Kind::kCopyRange: return copy_range(o);
    default: break;
  }
  const Place place = find(o.path);
  const bool two_names = o.kind == Kind::kLink || o.kind == Kind::kRename;
  const Place to = two_names ? find(o.path2) : Place{};
  // A rename looks up the directories of both names before either name.
  if (o.kind == Kind::kRename && (place.error || to.error)) {
    return place.error ? place.error : to.error;
  }
  if (const int error = place.missing()) return error;
  if (to.error) return to.error;
  switch (o.kind) {
    case Kind::kLink: return tree_.add_link(place.file, to.name);
    case Kind::kRename: return tree_.move(place.name, to.name, o.mode);
    case Kind::kUnlink: return tree_.remove_file(place.name);
    case Kind::kRemoveDirectory: return tree_.remove_directory(place.name);
    case Kind::kWrite:
    case Kind::kAppend:
    case Kind::kMapWrite:
    case Kind::kTruncate:
    case Kind::kAllocate: return change_content(o, place.file);
    default: return change_attributes(o, place.file);
  }
}

std::vector<Model::Listed> Model::list() const {
  std::vector<Listed> out;
  list_below(tree_.root, "", out);
  return out;
}

void Model::list_below(FileId directory, const std::string& path, std::vector<Listed>& out) const {
  for (const auto& [name, id] : tree_.at(directory).children) {
    const OracleFile& file = tree_.at(id);
    Listed listed{.path = path.empty() ? name : path + "/" + name,
                  .type = file.type(),
                  .size = file.data.size(),
                  .file = id,
                  .empty = file.children.empty()};
    for (const auto& [xattr, value] : file.xattrs) listed.xattrs.push_back(xattr);
    out.push_back(listed);
    if (file.is_dir()) list_below(id, listed.path, out);
  }
}

}  // namespace epochfs::testing
