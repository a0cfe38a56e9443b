#include "tests/support/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <filesystem>

#include <algorithm>
#include <climits>
#include <cstring>

#include "journal/base/unix.h"
#include "tests/support/failure.h"
#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

void write_to(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n <= 0) throw_errno("write " + escape(path));
    bytes.remove_prefix(size_t(n));
  }
}

void open_and_write(int directory, const std::string& path, int flags, std::string_view bytes) {
  UniqueFd fd(::openat(directory, path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644));
  if (!fd) throw_errno("open " + escape(path));
  write_to(fd.get(), bytes, path);
}

}  // namespace

void write_file(const std::string& path, std::string_view bytes) {
  open_and_write(AT_FDCWD, path, O_TRUNC, bytes);
}

void append_file(const std::string& path, std::string_view bytes) {
  open_and_write(AT_FDCWD, path, O_APPEND, bytes);
}

void write_file_at(int directory, const std::string& name, std::string_view bytes) {
  open_and_write(directory, name, O_TRUNC, bytes);
}

void poke(const std::string& path, uint64_t offset, std::string_view bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd) throw_errno("open " + escape(path));
  if (::lseek(fd.get(), off_t(offset), SEEK_SET) < 0) throw_errno("seek in " + escape(path));
  write_to(fd.get(), bytes, path);
}

void write_large_file(const std::string& path, uint64_t bytes, uint64_t seed) {
  constexpr uint64_t kPiece = 1 << 20;
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd) throw_errno("open " + escape(path));
  for (uint64_t done = 0; done < bytes; done += kPiece) {
    // An odd seed, or it would compress.
    write_to(fd.get(), bytes_of((seed + done) | 1, std::min(kPiece, bytes - done)), path);
  }
}

std::string read_whole_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) throw_errno("open " + escape(path));
  std::string out;
  char buffer[1 << 16];
  ssize_t n;
  while ((n = ::read(fd.get(), buffer, sizeof buffer)) > 0) out.append(buffer, size_t(n));
  if (n < 0) throw_errno("read " + escape(path));
  return out;
}

std::string read_file_if_there(const std::string& path) {
  return std::filesystem::exists(path) ? read_whole_file(path) : "";
}

void make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) != 0) throw_errno("make directory " + escape(path));
}

void set_xattr(const std::string& path, const std::string& name, std::string_view value) {
  if (::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0) != 0) {
    throw_errno(fmt::format("set xattr {} of {}", name, escape(path)));
  }
}

std::map<std::string, std::string> xattrs_of(const std::string& path, const std::string& what) {
  std::string names(XATTR_LIST_MAX, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  if (size < 0) throw_errno("list xattrs of " + escape(what));
  names.resize(size_t(size));
  std::map<std::string, std::string> out;
  for (size_t begin = 0; begin < names.size(); begin += std::strlen(&names[begin]) + 1) {
    std::string value(XATTR_SIZE_MAX, '\0');
    const ssize_t length = ::lgetxattr(path.c_str(), &names[begin], value.data(), value.size());
    if (length < 0) throw_errno(fmt::format("read xattr {} of {}", &names[begin], escape(what)));
    out[&names[begin]] = value.substr(0, size_t(length));
  }
  return out;
}

}  // namespace epochfs::testing
