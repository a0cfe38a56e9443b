// TargetModel: a model of a source tree with operations on it, random ones among them, and
// a comparison of a real directory with it.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "journal/changes/byte_ranges.h"
#include "journal/preimages/attributes.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"

namespace epochfs::testing {

struct ModelFile {
  replicator::FixedAttributes attributes;  // links and size are worked out when they are sent
  std::map<std::string, std::string> xattrs;
  std::string symlink_target;
  std::string data;
  std::map<std::string, FileId> children;
  uint64_t version = 0;  // of data
  uint64_t born = 0;     // LSN of its making: tells two files with one id apart

  bool is_dir() const { return journal::is_directory(attributes.mode); }
  bool is_reg() const { return journal::is_regular(attributes.mode); }
};

struct Model {
  std::map<FileId, ModelFile> files;
  FileId root{2, 1};
  uint64_t lsn = 1;  // of the newest mutation
  uint64_t next_inode = 100;

  Model() { make(root, 0040755); }

  ModelFile& at(FileId id) { return files.at(id); }
  replicator::Timestamp now() {
    return {int64_t(1'700'000'000 + lsn), int64_t(lsn * 7919 % 1'000'000'000)};
  }
  void touch(FileId id) { at(id).attributes.mtime = at(id).attributes.ctime = now(); }

  ModelFile& make(FileId id, uint32_t mode) {
    ModelFile& f = files[id] = ModelFile{};
    f.attributes.mode = mode;
    f.born = f.version = ++lsn;
    f.attributes.atime = now();
    touch(id);
    return f;
  }
  // With `id`, an identity that is used again.
  FileId create(FileId parent, const std::string& name, uint32_t mode, FileId id = {}) {
    if (!id) id = {next_inode++, 1000 + lsn};
    make(id, mode);
    at(parent).children[name] = id;
    touch(parent);
    return id;
  }
  FileId symlink(FileId parent, const std::string& name, const std::string& target) {
    FileId id = create(parent, name, 0120777);
    at(id).symlink_target = target;
    return id;
  }
  void link(FileId id, FileId parent, const std::string& name) {
    ++lsn;
    at(parent).children[name] = id;
    at(id).attributes.ctime = now();
    touch(parent);
  }
  size_t links(FileId id) const {
    size_t n = 0;
    for (const auto& [_, f] : files) {
      for (const auto& [__, child] : f.children) n += child == id;
    }
    return n;
  }
  // Of a file with its last name gone, or an empty directory.
  void unlink(FileId parent, const std::string& name) {
    ++lsn;
    FileId id = at(parent).children.at(name);
    at(parent).children.erase(name);
    touch(parent);
    if (links(id) == 0) files.erase(id);
  }
  void remove_tree(FileId parent, const std::string& name) {
    FileId id = at(parent).children.at(name);
    while (at(id).is_dir() && !at(id).children.empty()) {
      remove_tree(id, at(id).children.begin()->first);
    }
    unlink(parent, name);
  }
  bool is_below(FileId id, FileId top) const {
    if (id == top) return true;
    for (const auto& [_, child] : files.at(top).children) {
      if (files.at(child).is_dir() && is_below(id, child)) return true;
    }
    return false;
  }
  void rename(FileId from, const std::string& name, FileId to, const std::string& new_name) {
    FileId id = at(from).children.at(name);
    auto there = at(to).children.find(new_name);
    if (there != at(to).children.end() && there->second == id) return;  // as POSIX has it
    if (there != at(to).children.end()) unlink(to, new_name);
    ++lsn;
    at(from).children.erase(name);
    at(to).children[new_name] = id;
    at(id).attributes.ctime = now();
    touch(from);
    touch(to);
  }
  void exchange(FileId a, const std::string& name, FileId b, const std::string& name2) {
    ++lsn;
    std::swap(at(a).children.at(name), at(b).children.at(name2));
    touch(a);
    touch(b);
  }
  void write(FileId id, uint64_t offset, std::string_view bytes) {
    ModelFile& f = at(id);
    f.version = ++lsn;
    if (f.data.size() < offset + bytes.size()) f.data.resize(offset + bytes.size());
    f.data.replace(offset, bytes.size(), bytes);
    touch(id);
  }
  void truncate(FileId id, uint64_t size) {
    ModelFile& f = at(id);
    f.version = ++lsn;
    f.data.resize(size);
    touch(id);
  }
  FileId find(const std::string& path) const {
    FileId at = root;
    for (size_t begin = 0; begin < path.size();) {
      size_t end = std::min(path.find('/', begin), path.size());
      at = files.at(at).children.at(path.substr(begin, end - begin));
      begin = end + 1;
    }
    return at;
  }
};

// ---- comparing ----

class Comparison {
 public:
  Comparison(const Model& model, std::string path) : model_(model), path_(std::move(path)) {}

  // Empty: the directory is as the model says.
  std::string run() {
    UniqueFd root(::open(path_.c_str(), O_RDONLY | O_DIRECTORY));
    if (!root) return "cannot open " + path_;
    compare(root.get(), ".", model_.root, "");
    for (const auto& [id, inode] : inodes_) {
      if (!seen_inodes_.insert(inode).second)
        differ("", "two files share " + replicator::inode_text(id));
    }
    return differences_;
  }

 private:
  void differ(const std::string& path, const std::string& what) {
    if (differences_.size() < 2000) differences_ += "/" + escape(path) + ": " + what + "\n";
  }
  template <typename A, typename B>
  void equal(const std::string& path, const char* what, A is, B should) {
    if (is != A(should))
      differ(path, fmt_text(what, std::to_string(is), std::to_string(A(should))));
  }
  static std::string fmt_text(const char* what, const std::string& is, const std::string& should) {
    return std::string(what) + " is " + is + ", should be " + should;
  }

  void compare(int dir, const char* name, FileId id, const std::string& path) {
    const ModelFile& want = model_.files.at(id);
    struct stat s;
    if (::fstatat(dir, name, &s, AT_SYMLINK_NOFOLLOW) != 0) return differ(path, "cannot stat");
    equal(path, "mode", s.st_mode, want.attributes.mode);
    equal(path, "uid", s.st_uid, want.attributes.uid);
    equal(path, "gid", s.st_gid, want.attributes.gid);
    equal(path, "mtime", s.st_mtim.tv_sec, want.attributes.mtime.seconds);
    equal(path, "mtime ns", s.st_mtim.tv_nsec, want.attributes.mtime.nanos);
    auto [at, first] = inodes_.emplace(id, s.st_ino);
    if (!first && at->second != s.st_ino) differ(path, "is no hard link to its other name");
    if (S_ISDIR(s.st_mode) && want.is_dir()) return compare_directory(dir, name, want, path);
    equal(path, "links", s.st_nlink, model_.links(id));
    if (S_ISLNK(s.st_mode)) {
      char target[4096];
      ssize_t n = ::readlinkat(dir, name, target, sizeof target);
      if (std::string(target, size_t(std::max<ssize_t>(n, 0))) != want.symlink_target) {
        differ(path, "has another target");
      }
      return;
    }
    if (S_ISCHR(s.st_mode)) {
      equal(path, "device", s.st_rdev,
            makedev(unsigned(want.attributes.rdev >> 32), unsigned(want.attributes.rdev)));
    }
    UniqueFd fd(::openat(dir, name, O_PATH | O_NOFOLLOW));
    compare_xattrs(fd.get(), want, path);
    if (S_ISREG(s.st_mode) && want.is_reg()) compare_bytes(dir, name, want, path);
  }

  void compare_bytes(int dir, const char* name, const ModelFile& want, const std::string& path) {
    UniqueFd fd(::openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NOATIME));
    std::string bytes(want.data.size() + 1, '\0');
    bytes.resize(must(pread_full(fd.get(), bytes.data(), bytes.size(), 0, path)));
    if (bytes == want.data) return;
    auto at = std::mismatch(bytes.begin(), bytes.end(), want.data.begin(), want.data.end());
    differ(path, "has other bytes, first at " + std::to_string(at.first - bytes.begin()) +
                     ", size " + std::to_string(bytes.size()) + " for " +
                     std::to_string(want.data.size()));
  }

  void compare_xattrs(int fd, const ModelFile& want, const std::string& path) {
    char names[65536];
    std::map<std::string, std::string> is;
    ssize_t size = ::listxattr(proc_path(fd).c_str(), names, sizeof names);
    for (const char* at = names; at < names + size; at += std::strlen(at) + 1) {
      std::string value(65536, '\0');
      ssize_t n = ::getxattr(proc_path(fd).c_str(), at, value.data(), value.size());
      value.resize(size_t(std::max<ssize_t>(n, 0)));
      is[at] = value;
    }
    if (is != want.xattrs) differ(path, "has other xattrs");
  }

  void compare_directory(int parent, const char* name, const ModelFile& want,
                         const std::string& path) {
    int fd = ::openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return differ(path, "cannot open");
    compare_xattrs(fd, want, path);
    DIR* dir = ::fdopendir(fd);
    std::set<std::string> names;
    while (dirent* e = ::readdir(dir)) names.insert(e->d_name);
    names.erase(".");
    names.erase("..");
    for (const std::string& n : names) {
      if (!want.children.count(n)) differ(path + "/" + n, "should not be there");
    }
    for (const auto& [n, child] : want.children) {
      if (names.count(n)) {
        compare(fd, n.c_str(), child, path + "/" + n);
      } else {
        differ(path + "/" + n, "is missing");
      }
    }
    ::closedir(dir);
  }

  const Model& model_;
  std::string path_;
  std::map<FileId, ino_t> inodes_;
  std::set<ino_t> seen_inodes_;
  std::string differences_;
};

inline std::string compare(const Model& model, const std::string& path) {
  return Comparison(model, path).run();
}

// ---- random trees ----

// Random operations on a model, of every kind that a user of a file system has.
class Operations {
 public:
  Operations(Model& model, Random& random, uint64_t max_bytes = 40'000)
      : m_(model), random_(random), max_bytes_(max_bytes) {}

  void run(size_t count) {
    for (size_t i = 0; i < count; ++i) one();
  }

 private:
  using Place = std::pair<FileId, std::string>;

  std::vector<Place> places(bool dirs, bool files) {
    std::vector<Place> out;
    for (const auto& [id, f] : m_.files) {
      for (const auto& [name, child] : f.children) {
        if (m_.files.at(child).is_dir() ? dirs : files) out.emplace_back(id, name);
      }
    }
    return out;
  }
  template <typename T>
  const T& any(const std::vector<T>& v) {
    return v[random_.below(v.size())];
  }
  FileId any_directory() {
    std::vector<FileId> out;
    for (const auto& [id, f] : m_.files) {
      if (f.is_dir()) out.push_back(id);
    }
    return any(out);
  }
  FileId any_regular() {
    std::vector<FileId> out;
    for (const auto& [id, f] : m_.files) {
      if (f.is_reg()) out.push_back(id);
    }
    return out.empty() ? FileId{} : any(out);
  }
  // Few names, so that they are used again and again.
  std::string any_name() {
    static const char* const odd[] = {"new\nline", "\xff\xfe", "-rf", " ", "...", "a:b"};
    if (random_.one_in(10)) return odd[random_.below(6)];
    return std::string(1, char('a' + random_.below(8)));
  }
  std::string bytes(size_t size) {
    std::string out(size, '\0');
    if (random_.one_in(4)) return out;  // zeros, which may become holes
    uint64_t seed = random_.u64();
    const bool dull = random_.one_in(2);
    for (size_t i = 0; i < size; ++i)
      out[i] = dull ? char(seed + i / 700) : char((seed = seed * 6364136223846793005ull + 1) >> 56);
    return out;
  }

  void one() {
    // Grows to some size, and stays about there.
    if (m_.files.size() < 60 && random_.one_in(2)) {
      return random_.one_in(3) ? make_directory() : random_.one_in(4) ? link() : create();
    }
    switch (random_.below(16)) {
      case 0:
      case 1:
      case 2: return create();
      case 3: return make_directory();
      case 4:
      case 5: return write();
      case 6: return resize();
      case 7:
      case 8: return rename();
      case 9: return exchange();
      case 10: return link();
      case 11: return unlink();
      case 12: return remove_tree();
      case 13: return attributes();
      case 14: return special();
      case 15: return reincarnate();
    }
  }
  bool vacant(FileId dir, const std::string& name) { return !m_.at(dir).children.count(name); }

  void create() {
    FileId dir = any_directory();
    std::string name = any_name();
    if (!vacant(dir, name)) {
      if (m_.at(m_.at(dir).children[name]).is_dir()) return;
      m_.unlink(dir, name);  // another file under the same name
    }
    FileId id = m_.create(dir, name, 0100000 | (random_.one_in(8) ? 04755 : 0644));
    if (!random_.one_in(4))
      m_.write(id, random_.one_in(5) ? random_.below(9000) : 0, bytes(random_.below(max_bytes_)));
  }
  void make_directory() {
    FileId dir = any_directory();
    std::string name = any_name();
    if (vacant(dir, name)) m_.create(dir, name, random_.one_in(6) ? 0042770 : 0040755);
  }
  void write() {
    FileId id = any_regular();
    if (!id) return;
    m_.write(id, random_.below(m_.at(id).data.size() + 5000),
             bytes(1 + random_.below(random_.one_in(4) ? max_bytes_ : 300)));
  }
  void resize() {
    FileId id = any_regular();
    if (id) m_.truncate(id, random_.one_in(3) ? 0 : random_.below(max_bytes_));
  }
  void rename() {
    auto all = places(true, true);
    if (all.empty()) return;
    Place from = any(all);
    FileId id = m_.at(from.first).children[from.second];
    FileId to = any_directory();
    std::string name = any_name();
    if (m_.at(id).is_dir() && m_.is_below(to, id)) return;
    if (!vacant(to, name)) {
      const ModelFile& there = m_.at(m_.at(to).children[name]);
      if (there.is_dir() != m_.at(id).is_dir() || (there.is_dir() && !there.children.empty()))
        return;
      if (there.is_dir() && m_.is_below(from.first, m_.at(to).children[name])) return;
    }
    m_.rename(from.first, from.second, to, name);
  }
  void exchange() {
    auto all = places(true, true);
    if (all.size() < 2) return;
    Place a = any(all), b = any(all);
    FileId x = m_.at(a.first).children[a.second], y = m_.at(b.first).children[b.second];
    if (x == y || (m_.at(x).is_dir() && m_.is_below(b.first, x)) ||
        (m_.at(y).is_dir() && m_.is_below(a.first, y))) {
      return;
    }
    m_.exchange(a.first, a.second, b.first, b.second);
  }
  void link() {
    auto all = places(false, true);
    if (all.empty()) return;
    Place from = any(all);
    FileId to = any_directory();
    std::string name = any_name();
    if (vacant(to, name)) m_.link(m_.at(from.first).children[from.second], to, name);
  }
  void unlink() {
    auto all = places(false, true);
    if (all.empty()) return;
    Place p = any(all);
    m_.unlink(p.first, p.second);
  }
  void remove_tree() {
    auto all = places(true, false);
    if (all.empty()) return;
    Place p = any(all);
    if (size_of(m_.at(p.first).children[p.second]) < 6 || random_.one_in(6))
      m_.remove_tree(p.first, p.second);
  }
  void attributes() {
    auto all = places(true, true);
    if (all.empty()) return;
    Place p = any(all);
    ModelFile& f = m_.at(m_.at(p.first).children[p.second]);
    ++m_.lsn;
    f.attributes.ctime = m_.now();
    switch (random_.below(4)) {
      case 0:
        if (!is_link(f))
          f.attributes.mode = (f.attributes.mode & 0170000) | uint32_t(random_.below(010000));
        break;
      case 1:
        f.attributes.uid = uint32_t(random_.below(2000));
        f.attributes.gid = uint32_t(random_.below(2000));
        break;
      case 2:
        f.attributes.mtime = {int64_t(random_.below(2'000'000'000)),
                              int64_t(random_.below(1'000'000'000))};
        break;
      case 3:
        if (is_link(f)) break;
        if (f.is_dir() || f.is_reg())
          f.xattrs["user.x" + std::to_string(random_.below(3))] = bytes(random_.below(100));
        if (random_.one_in(2)) f.xattrs.erase("user.x" + std::to_string(random_.below(3)));
        f.xattrs["trusted.y"] = std::to_string(random_.below(100));
    }
  }
  size_t size_of(FileId id) const {
    size_t n = 1;
    for (const auto& [_, child] : m_.files.at(id).children) n += size_of(child);
    return n;
  }
  static bool is_link(const ModelFile& f) { return (f.attributes.mode & 0170000) == 0120000; }
  void special() {
    FileId dir = any_directory();
    std::string name = any_name();
    if (!vacant(dir, name)) return;
    switch (random_.below(4)) {
      case 0: m_.symlink(dir, name, "../" + any_name()); break;
      case 1: m_.symlink(dir, name, "/etc/passwd"); break;
      case 2: m_.create(dir, name, 0010640); break;
      case 3:
        m_.at(m_.create(dir, name, 0020600)).attributes.rdev =
            uint64_t(1) << 32 | random_.below(10);
    }
  }
  // A file system gives an inode number away again within one tick of its clock:
  // another file, of any type, with the identity of one that just went.
  void reincarnate() {
    auto all = places(true, true);
    if (all.empty()) return;
    Place p = any(all);
    FileId id = m_.at(p.first).children[p.second];
    if (m_.at(id).is_dir() ? !m_.at(id).children.empty() : m_.links(id) > 1) return;
    m_.unlink(p.first, p.second);
    FileId dir = random_.one_in(2) ? p.first : any_directory();
    std::string name = random_.one_in(2) ? p.second : any_name();
    if (!vacant(dir, name)) return;
    if (random_.one_in(3)) {
      m_.create(dir, name, 0040755, id);
    } else {
      m_.write(m_.create(dir, name, 0100600, id), 0, bytes(random_.below(max_bytes_)));
    }
  }

  Model& m_;
  Random& random_;
  uint64_t max_bytes_;
};

}  // namespace epochfs::testing
