// DurableStorage: what would the disk hold if the machine, or the process, stopped at this
// call? It does everything that Storage does except to sync. Instead it keeps track of which
// bytes and names below a folder a sync has made durable.
//
// The fault budget. A stop may lose these, and nothing else:
//   bytes of a file      written since its last sync_data(), and its size: each sector by
//                        itself, or part of the last one that was written, or all. Disks
//                        write a sector as a whole. Records and manifest entries survive a
//                        torn one, so only the first sector of other files, their header, is
//                        left whole
//   names in a folder    changed since the folder's last sync: the new one or the old one
//   nothing              of replace_file(), publish_file() and remove_file() that returned
//
// Any call can be made to fail: without any effect, or after all of it.
//
// Threads: any. The hook runs on the thread that makes the call.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "journal/base/storage.h"
#include "tests/support/files.h"
#include "tests/support/random.h"

namespace epochfs::testing {

enum class Loss { kNothing, kEverything, kRandomSectors, kTornWrite };
constexpr Loss kPowerLosses[] = {Loss::kEverything, Loss::kRandomSectors, Loss::kTornWrite};

class DurableStorage : public Storage {
 public:
  enum class Moment { kBefore, kAfter };
  // A call of a label: the how many-th of it, from 1.
  struct Call {
    std::string label;
    int number = 0;
    bool operator<(const Call& o) const {
      return std::tie(label, number) < std::tie(o.label, o.number);
    }
  };
  using Hook = std::function<void(const Call&, Moment, std::string_view what)>;

  explicit DurableStorage(std::string root) : root_(std::move(root)) {}

  void on_call(Hook hook) { hook_ = std::move(hook); }
  // The call fails once: before it has done anything, or after all is done.
  void fail_at(const Call& call, Moment when) {
    fails_ = call;
    fails_when_ = when;
  }
  bool has_failed() const { return failed_; }
  std::map<std::string, int> calls() {
    std::lock_guard lock(mutex_);
    return calls_;
  }

  // The machine was started again: what is there is what the disk holds.
  void restarted() {
    std::lock_guard lock(mutex_);
    files_.clear();
    names_.clear();
    for (const auto& [path, inode] : present()) {
      names_[path] = inode;
      files_[inode] = read_whole_file(root_ + "/" + path);
    }
  }

  // What stands there after the process (kNothing) or the machine has stopped. Nobody may
  // write meanwhile.
  void copy_to(const std::string& image, Loss loss, Random& random) {
    std::lock_guard lock(mutex_);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      const std::string path = relative(entry.path());
      // Folders are made durable by the first file in them that is, or are empty.
      if (entry.is_directory()) std::filesystem::create_directories(image + "/" + path);
    }
    auto now = present();
    std::set<std::string> paths;
    for (const auto& [path, inode] : now) paths.insert(path);
    if (loss != Loss::kNothing) {
      for (const auto& [path, inode] : names_) paths.insert(path);
    }
    for (const std::string& path : paths) {
      const auto current = now.find(path);
      const auto durable = names_.find(path);
      const bool is = current != now.end(), was = durable != names_.end();
      const bool newer =
          loss == Loss::kNothing || (is && was && current->second == durable->second)
              ? true
              : loss == Loss::kTornWrite || (loss == Loss::kRandomSectors && random.one_in(2));
      if (!(newer ? is : was)) continue;
      const uint64_t inode = newer ? current->second : durable->second;
      std::string bytes = newer ? read_whole_file(root_ + "/" + path) : files_[inode];
      if (newer && loss != Loss::kNothing) {
        bytes = lose(files_[inode], bytes, loss, !path.ends_with("/epochs"), random);
      }
      // Zeros at the end need no room: most of some files is that.
      const size_t size = bytes.size();
      bytes.resize(bytes.find_last_not_of('\0') + 1);
      write_file(image + "/" + path, bytes);
      std::filesystem::resize_file(image + "/" + path, size);
    }
  }

  Result<void> allocate(const char* label, int fd, uint64_t size, std::string_view what) override {
    return call(
        label, what, [&] { return Storage::allocate(label, fd, size, what); }, [] {});
  }
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    return call(
        label, what, [] { return Result<void>(); }, [&] { data_is_durable(fd); });
  }
  Result<void> sync_directory(const char* label, int dir, std::string_view what) override {
    return call(
        label, what, [] { return Result<void>(); }, [&] { names_are_durable(dir); });
  }
  Result<void> replace_file(const char* label, int dir, const std::string& name,
                            std::string_view bytes) override {
    return call(
        label, name,
        [&]() -> Result<void> {
          const std::string temporary = name + ".new";
          UniqueFd fd(::openat(dir, temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600));
          EPOCHFS_DO(pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, name));
          if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0)
            return fail_errno("rename");
          return {};
        },
        [&] {
          UniqueFd fd(::openat(dir, name.c_str(), O_RDONLY));
          data_is_durable(fd.get());
          names_are_durable(dir);
        });
  }
  Result<void> publish_file(const char* label, int dir, int fd, const std::string& temporary,
                            const std::string& name) override {
    return call(
        label, name,
        [&]() -> Result<void> {
          if (::renameat(dir, temporary.c_str(), dir, name.c_str()) != 0)
            return fail_errno("rename");
          return {};
        },
        [&] {
          data_is_durable(fd);
          names_are_durable(dir);
        });
  }
  Result<void> remove_file(const char* label, int dir, const std::string& name) override {
    return call(
        label, name,
        [&]() -> Result<void> {
          if (::unlinkat(dir, name.c_str(), 0) != 0 && errno != ENOENT) return fail_errno("remove");
          return {};
        },
        [&] { names_are_durable(dir); });
  }

 private:
  static constexpr size_t kSector = 512;

  template <typename Do, typename Account>
  Result<void> call(const char* label, std::string_view what, const Do& act,
                    const Account& account) {
    Call call{label, 0};
    bool fails;
    {
      std::lock_guard lock(mutex_);
      call.number = ++calls_[label];
      fails = !failed_ && fails_.label == call.label && fails_.number == call.number;
      if (fails) failed_ = true;
    }
    if (hook_) hook_(call, Moment::kBefore, what);
    Result<void> result;
    if (!fails || fails_when_ == Moment::kAfter) {
      result = act();
      std::lock_guard lock(mutex_);
      if (result) account();
    }
    if (fails) result = fail(std::string("fail at ") + label, EIO);
    if (hook_) hook_(call, Moment::kAfter, what);
    return result;
  }

  std::string relative(const std::filesystem::path& path) const {
    return path.string().substr(root_.size() + 1);
  }
  // Files below the root: path -> inode.
  std::map<std::string, uint64_t> present() const {
    std::map<std::string, uint64_t> out;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root_)) {
      struct stat st;
      if (::lstat(entry.path().c_str(), &st) == 0 && S_ISREG(st.st_mode)) {
        out[relative(entry.path())] = st.st_ino;
      }
    }
    return out;
  }
  void data_is_durable(int fd) {
    struct stat st;
    if (::fstat(fd, &st) == 0) files_[st.st_ino] = read_whole_file(proc_path(fd));
  }
  void names_are_durable(int dir) {
    const std::string path = std::filesystem::read_symlink(proc_path(dir)).string();
    const std::string prefix =
        path.size() > root_.size() ? path.substr(root_.size() + 1) + "/" : "";
    auto inside = [&](const std::string& file) {
      return file.starts_with(prefix) && file.find('/', prefix.size()) == std::string::npos;
    };
    std::erase_if(names_, [&](const auto& entry) { return inside(entry.first); });
    for (const auto& [file, inode] : present()) {
      if (inside(file)) names_[file] = inode;
    }
  }
  // What a file can hold that was `durable` and has been written to since.
  static std::string lose(const std::string& durable, const std::string& now, Loss loss,
                          bool has_header, Random& random) {
    if (loss == Loss::kEverything || durable == now) return durable;
    std::string out = durable;
    out.resize(std::max(durable.size(), now.size()));
    size_t last = out.size();  // the sector that was written last, as far as one can know
    while (last > 0 && last <= now.size() &&
           now[last - 1] == (last <= durable.size() ? durable[last - 1] : '\0')) {
      --last;
    }
    size_t torn_at = last - random.below(std::min(last, kSector) + 1);
    if (has_header && torn_at < kSector) torn_at = random.one_in(2) ? 0 : kSector;
    for (size_t at = 0; at < now.size(); at += kSector) {
      size_t size = std::min(kSector, now.size() - at);
      if (loss == Loss::kRandomSectors && random.one_in(2)) continue;
      if (loss == Loss::kTornWrite) {
        if (at >= torn_at) break;
        size = std::min(size, torn_at - at);
      }
      out.replace(at, size, now, at, size);
    }
    // A size reaches the disk with the data, or before it.
    if (now.size() > durable.size() && loss == Loss::kRandomSectors && random.one_in(4)) {
      out.resize(durable.size() + random.below(now.size() - durable.size() + 1));
    }
    if (now.size() < durable.size() && random.one_in(2)) out.resize(now.size());
    return out;
  }

  const std::string root_;
  Hook hook_;
  std::mutex mutex_;
  std::map<std::string, int> calls_;
  std::map<uint64_t, std::string> files_;  // inode -> what was synced; absent: nothing
  std::map<std::string, uint64_t> names_;  // path -> inode
  Call fails_;
  Moment fails_when_ = Moment::kBefore;
  std::atomic<bool> failed_{false};
};

}  // namespace epochfs::testing
