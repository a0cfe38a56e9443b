#include "tests/support/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <memory>

#include "journal/base/unix.h"
#include "tests/support/content.h"
#include "tests/support/failure.h"
#include "tests/support/files.h"

namespace epochfs::testing {
namespace {

// ---- reading ----

class Reader {
 public:
  TreeSnapshot read(const std::string& root) {
    UniqueFd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd) throw_errno("open " + root);
    struct stat st;
    if (::fstat(fd.get(), &st) != 0) throw_errno("stat " + root);
    device_ = st.st_dev;
    add(fd.get(), ".", ".", st);
    read_directory(std::move(fd), "");
    name_links();
    return std::move(snapshot_);
  }

 private:
  using FileKey = std::pair<dev_t, ino_t>;

  void read_directory(UniqueFd fd, const std::string& path) {
    for (const std::string& name : names_in(fd.get(), path)) {
      const std::string child = path.empty() ? name : path + "/" + name;
      struct stat st;
      if (::fstatat(fd.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
        throw_errno("stat " + escape(child));
      }
      add(fd.get(), name, child, st);
      if (!S_ISDIR(st.st_mode) || st.st_dev != device_) continue;
      UniqueFd below(::openat(fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!below) throw_errno("open " + escape(child));
      read_directory(std::move(below), child);
    }
  }

  static std::vector<std::string> names_in(int fd, const std::string& path) {
    UniqueFd own(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    std::unique_ptr<DIR, int (*)(DIR*)> dir(own ? ::fdopendir(own.get()) : nullptr, ::closedir);
    if (!dir) throw_errno("read directory " + escape(path));
    own.release();
    std::vector<std::string> names;
    errno = 0;
    while (dirent* entry = ::readdir(dir.get())) {
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) throw_errno("read directory " + escape(path));
    return names;
  }

  void add(int parent, const std::string& name, const std::string& path, const struct stat& st) {
    TreeEntry& entry = snapshot_[path];
    entry.mode = st.st_mode;
    entry.uid = st.st_uid;
    entry.gid = st.st_gid;
    entry.mtime_ns = st.st_mtim.tv_sec * 1'000'000'000 + st.st_mtim.tv_nsec;
    entry.xattrs = xattrs_of(proc_path(parent) + "/" + name, path);
    if (S_ISDIR(st.st_mode)) return;
    entry.links = uint64_t(st.st_nlink);
    if (st.st_nlink > 1) links_[{st.st_dev, st.st_ino}].push_back(path);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) entry.rdev = st.st_rdev;
    if (S_ISLNK(st.st_mode)) read_symlink(parent, name, path, entry);
    if (S_ISREG(st.st_mode)) read_content(parent, name, path, st, entry);
  }

  static void read_symlink(int parent, const std::string& name, const std::string& path,
                           TreeEntry& entry) {
    char target[PATH_MAX];
    const ssize_t size = ::readlinkat(parent, name.c_str(), target, sizeof target);
    if (size < 0) throw_errno("read symbolic link " + escape(path));
    entry.symlink_target.assign(target, size_t(size));
    entry.size = uint64_t(size);
  }

  void read_content(int parent, const std::string& name, const std::string& path,
                    const struct stat& st, TreeEntry& entry) {
    entry.size = uint64_t(st.st_size);
    entry.allocated_bytes = uint64_t(st.st_blocks) * 512;
    if (st.st_size == 0) return;
    UniqueFd fd(::openat(parent, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) throw_errno("open " + escape(path));
    ContentHash hash;
    uint64_t hashed = 0;
    for (off_t at = 0; at < st.st_size;) {
      const off_t begin = ::lseek(fd.get(), at, SEEK_DATA);
      if (begin < 0 && errno == ENXIO) break;  // a hole up to the end
      const off_t end = begin < 0 ? -1 : ::lseek(fd.get(), begin, SEEK_HOLE);
      if (end < 0) throw_errno("find holes of " + escape(path));
      at = std::min(end, st.st_size);
      entry.data.push_back({uint64_t(begin), uint64_t(at)});
      hash_range(fd.get(), entry.data.back(), hash, hashed, path);
    }
    entry.content_hash = hash.value();
  }

  // Data may begin or end within a block, where a file system has smaller ones: `done`
  // is where the blocks end that are in the hash already.
  void hash_range(int fd, ByteRange range, ContentHash& hash, uint64_t& done,
                  const std::string& path) {
    constexpr size_t kChunk = 1 << 20;
    buffer_.resize(kChunk);
    uint64_t at = std::max(done, range.begin / ContentHash::kBlock * ContentHash::kBlock);
    while (at < range.end) {
      const ssize_t n = ::pread(fd, buffer_.data(), kChunk, off_t(at));
      if (n <= 0) throw_errno("read " + escape(path));
      const std::string_view bytes(buffer_.data(), size_t(n));
      for (size_t i = 0; i < bytes.size() && at < range.end; i += ContentHash::kBlock) {
        hash.add(at, bytes.substr(i, ContentHash::kBlock));
        at += ContentHash::kBlock;
      }
    }
    done = at;
  }

  void name_links() {
    for (auto& [file, paths] : links_) {
      const std::string first = *std::min_element(paths.begin(), paths.end());
      for (const std::string& path : paths) snapshot_[path].link_name = first;
    }
  }

  dev_t device_ = 0;
  TreeSnapshot snapshot_;
  std::map<FileKey, std::vector<std::string>> links_;
  std::string buffer_;
};

// ---- comparing ----

std::string shown(const std::string& bytes) {
  constexpr size_t kShown = 80;
  std::string text = escape(bytes);
  return text.size() <= kShown ? text : text.substr(0, kShown) + "...";
}

// Ranges that are data in exactly one of the two. An edge that both have cancels out;
// what is left alternates between begin and end.
std::vector<ByteRange> only_in_one(const std::vector<ByteRange>& a,
                                   const std::vector<ByteRange>& b) {
  std::vector<uint64_t> edges, left;
  for (const auto* ranges : {&a, &b}) {
    for (const ByteRange& r : *ranges) edges.insert(edges.end(), {r.begin, r.end});
  }
  std::sort(edges.begin(), edges.end());
  for (uint64_t edge : edges) {
    if (!left.empty() && left.back() == edge) {
      left.pop_back();
    } else {
      left.push_back(edge);
    }
  }
  std::vector<ByteRange> out;
  for (size_t i = 0; i + 1 < left.size(); i += 2) out.push_back({left[i], left[i + 1]});
  return out;
}

class Comparison {
 public:
  Comparison(const Strictness& strictness, size_t limit) : strictness_(strictness), limit_(limit) {}

  void compare(const TreeSnapshot& expected, const TreeSnapshot& actual) {
    auto left = expected.begin();
    auto right = actual.begin();
    while (left != expected.end() || right != actual.end()) {
      if (right == actual.end() || (left != expected.end() && left->first < right->first)) {
        note(left++->first, "is missing");
      } else if (left == expected.end() || right->first < left->first) {
        note(right++->first, "is there, but should not be");
      } else {
        path_ = left->first;
        compare(left++->second, right++->second);
      }
    }
  }

  std::vector<std::string> result() {
    if (count_ > limit_) lines_.push_back(fmt::format("... {} differences in all", count_));
    return std::move(lines_);
  }

 private:
  void note(const std::string& path, const std::string& what) {
    if (++count_ <= limit_) lines_.push_back(fmt::format("{}: {}", shown(path), what));
  }

  template <typename T>
  void check(const char* what, const T& expected, const T& actual, const char* format = "{}") {
    if (expected == actual) return;
    note(path_,
         fmt::format("{}: {} expected, {} found", what, fmt::format(fmt::runtime(format), expected),
                     fmt::format(fmt::runtime(format), actual)));
  }

  void check_bytes(const std::string& what, const std::string& expected,
                   const std::string& actual) {
    if (expected == actual) return;
    note(path_,
         fmt::format("{}: \"{}\" expected, \"{}\" found", what, shown(expected), shown(actual)));
  }

  void compare(const TreeEntry& a, const TreeEntry& b) {
    check("type", a.mode & S_IFMT, b.mode & S_IFMT, "{:o}");
    if ((a.mode & S_IFMT) != (b.mode & S_IFMT)) return;
    check("mode", a.mode & 07777, b.mode & 07777, "{:o}");
    check("owner", a.uid, b.uid);
    check("group", a.gid, b.gid);
    check("size", a.size, b.size);
    check("device", a.rdev, b.rdev, "{:#x}");
    check("link count", a.links, b.links);
    check_bytes("linked with", a.link_name, b.link_name);
    check_bytes("symbolic link", a.symlink_target, b.symlink_target);
    if (strictness_.times) check("mtime", a.mtime_ns, b.mtime_ns);
    check("hash of contents", a.content_hash, b.content_hash, "{:016x}");
    compare_xattrs(a, b);
    if (strictness_.holes) compare_holes(a, b);
  }

  void compare_xattrs(const TreeEntry& a, const TreeEntry& b) {
    for (const auto& [name, value] : a.xattrs) {
      auto other = b.xattrs.find(name);
      if (other == b.xattrs.end()) {
        note(path_, "xattr " + name + " is missing");
      } else {
        check_bytes("xattr " + name, value, other->second);
      }
    }
    for (const auto& [name, value] : b.xattrs) {
      if (!a.xattrs.count(name)) note(path_, "xattr " + name + " is there, but should not be");
    }
  }

  void compare_holes(const TreeEntry& a, const TreeEntry& b) {
    // Extent trees, and blocks allocated ahead.
    const uint64_t slack = std::max(16 * strictness_.hole_tolerance, a.size / 16);
    const uint64_t more = std::max(a.allocated_bytes, b.allocated_bytes);
    const uint64_t less = std::min(a.allocated_bytes, b.allocated_bytes);
    if (more - less > slack) check("allocated bytes", a.allocated_bytes, b.allocated_bytes);
    for (const ByteRange& r : only_in_one(a.data, b.data)) {
      if (r.length() <= strictness_.hole_tolerance) continue;
      const bool is_data = std::any_of(a.data.begin(), a.data.end(), [&](const ByteRange& d) {
        return d.begin <= r.begin && r.begin < d.end;
      });
      note(path_,
           fmt::format("bytes {} to {}: {}", r.begin, r.end,
                       is_data ? "data expected, a hole found" : "a hole expected, data found"));
      return;
    }
  }

  const Strictness& strictness_;
  const size_t limit_;
  size_t count_ = 0;
  std::string path_;
  std::vector<std::string> lines_;
};

}  // namespace

TreeSnapshot snapshot(const std::string& root) {
  // A descriptor for each level of a tree that may be thousands deep.
  rlimit files;
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  return Reader().read(root);
}

std::vector<std::string> differences(const TreeSnapshot& expected, const TreeSnapshot& actual,
                                     const Strictness& strictness, size_t limit) {
  Comparison comparison(strictness, limit);
  comparison.compare(expected, actual);
  return comparison.result();
}

::testing::AssertionResult same_tree(const TreeSnapshot& expected, const TreeSnapshot& actual,
                                     const Strictness& strictness) {
  const auto lines = differences(expected, actual, strictness);
  if (lines.empty()) return ::testing::AssertionSuccess();
  auto result = ::testing::AssertionFailure();
  for (const std::string& line : lines) result << "\n  " << line;
  return result;
}

}  // namespace epochfs::testing
