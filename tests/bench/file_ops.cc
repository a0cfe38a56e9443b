// file_ops: how many file operations a second does a directory allow?
//
//   file_ops DIR WORKLOAD [--threads N] [--seconds S]
//   file_ops --list
//
// Prints one number: operations a second of all threads together. Preparation is not timed.
// Each thread works on its own files in its own folder, which is removed at the end.
// tests/bench/mount runs this on several file systems and compares.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSmall = 4096, kLarge = 1 << 20;
constexpr uint64_t kFileBytes = 64 << 20;
constexpr int kFiles = 1000;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "file_ops: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

void check(bool ok, const std::string& what) {
  if (!ok) die(what);
}

class File {
 public:
  File(const std::string& path, int flags) : path_(path), fd_(::open(path.c_str(), flags, 0644)) {
    check(fd_ >= 0, "open " + path);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void write(const std::vector<char>& data, uint64_t offset) {
    check(::pwrite(fd_, data.data(), data.size(), off_t(offset)) == ssize_t(data.size()),
          "write " + path_);
  }
  void read(std::vector<char>& data, uint64_t offset) {
    check(::pread(fd_, data.data(), data.size(), off_t(offset)) == ssize_t(data.size()),
          "read " + path_);
  }
  void sync() { check(::fdatasync(fd_) == 0, "fdatasync " + path_); }
  void truncate() { check(::ftruncate(fd_, 0) == 0, "truncate " + path_); }

 private:
  std::string path_;
  int fd_;
};

// One thread's part: prepares in its constructor, then does operation after operation.
class Workload {
 public:
  virtual ~Workload() = default;
  virtual void step() = 0;
  // False: there is nothing left to do, the run is over early.
  virtual bool more() const { return true; }
};

class Data : public Workload {
 public:
  Data(const std::string& dir, size_t bytes, bool fill)
      : file_(dir + "/data", O_CREAT | O_RDWR), block_(bytes, 'x') {
    if (!fill) return;
    const std::vector<char> large(kLarge, 'y');
    for (uint64_t at = 0; at < kFileBytes; at += kLarge) file_.write(large, at);
    std::vector<char> warm(kLarge);
    for (uint64_t at = 0; at < kFileBytes; at += kLarge) file_.read(warm, at);
  }

 protected:
  uint64_t any_block() { return random_() % (kFileBytes / block_.size()) * block_.size(); }
  uint64_t next_block() {
    const uint64_t at = next_;
    next_ = (next_ + block_.size()) % kFileBytes;
    return at;
  }
  File file_;
  std::vector<char> block_;
  std::minstd_rand random_{7};
  uint64_t next_ = 0;
};

struct RandomRead : Data {
  explicit RandomRead(const std::string& dir) : Data(dir, kSmall, true) {}
  void step() override { file_.read(block_, any_block()); }
};
struct SequentialRead : Data {
  explicit SequentialRead(const std::string& dir) : Data(dir, kLarge, true) {}
  void step() override { file_.read(block_, next_block()); }
};
template <size_t kBytes>
struct Rewrite : Data {
  explicit Rewrite(const std::string& dir) : Data(dir, kBytes, true) {}
  void step() override { file_.write(block_, next_block()); }
};
struct RandomRewrite : Data {
  explicit RandomRewrite(const std::string& dir) : Data(dir, kSmall, true) {}
  void step() override { file_.write(block_, any_block()); }
};
// New blocks: begins anew, in an empty file, when it is full.
template <size_t kBytes>
struct WriteNew : Data {
  explicit WriteNew(const std::string& dir) : Data(dir, kBytes, false) {}
  void step() override {
    const uint64_t at = next_block();
    if (at == 0) file_.truncate();
    file_.write(block_, at);
  }
};

class Files : public Workload {
 public:
  Files(const std::string& dir, int count) : dir_(dir) {
    for (int i = 0; i < count; ++i) File(name(i), O_CREAT | O_WRONLY).write(content_, 0);
  }

 protected:
  std::string name(int i) const { return dir_ + "/file" + std::to_string(i); }
  std::string dir_;
  std::vector<char> content_ = std::vector<char>(100, 'x');
  int next_ = 0;
};

struct Create : Files {
  explicit Create(const std::string& dir) : Files(dir, 0) {}
  void step() override { File(name(next_++), O_CREAT | O_EXCL | O_WRONLY).write(content_, 0); }
};
struct Stat : Files {
  explicit Stat(const std::string& dir) : Files(dir, kFiles) {}
  void step() override {
    struct stat s;
    check(::stat(name(next_++ % kFiles).c_str(), &s) == 0, "stat");
  }
};
struct Open : Files {
  explicit Open(const std::string& dir) : Files(dir, kFiles) {}
  void step() override { File(name(next_++ % kFiles), O_RDONLY); }
};
struct Rename : Files {
  explicit Rename(const std::string& dir) : Files(dir, 1) {}
  void step() override {
    check(::rename(name(next_).c_str(), name(next_ + 1).c_str()) == 0, "rename");
    ++next_;
  }
};
struct Chmod : Files {
  explicit Chmod(const std::string& dir) : Files(dir, kFiles) {}
  void step() override {
    check(::chmod(name(next_ % kFiles).c_str(), next_ / kFiles % 2 ? 0600 : 0640) == 0, "chmod");
    ++next_;
  }
};
struct Unlink : Files {
  static constexpr int kCount = 5000;
  explicit Unlink(const std::string& dir) : Files(dir, kCount) {}
  void step() override { check(::unlink(name(next_++).c_str()) == 0, "unlink"); }
  bool more() const override { return next_ < kCount; }
};
struct Mkdir : Files {
  explicit Mkdir(const std::string& dir) : Files(dir, 0) {}
  void step() override { check(::mkdir(name(next_++).c_str(), 0755) == 0, "mkdir"); }
};
struct Fsync : Data {
  explicit Fsync(const std::string& dir) : Data(dir, kSmall, true) {}
  void step() override {
    file_.write(block_, any_block());
    file_.sync();
  }
};

template <typename W>
std::unique_ptr<Workload> make(const std::string& dir) {
  return std::make_unique<W>(dir);
}

struct Row {
  const char* name;
  std::unique_ptr<Workload> (*make)(const std::string& dir);
  size_t bytes;  // an operation moves
};

constexpr Row kRows[] = {
    {"read-4k-random", make<RandomRead>, kSmall},
    {"read-1m", make<SequentialRead>, kLarge},
    {"write-4k-new", make<WriteNew<kSmall>>, kSmall},
    {"write-4k-rewrite", make<Rewrite<kSmall>>, kSmall},
    {"write-4k-random", make<RandomRewrite>, kSmall},
    {"write-1m-new", make<WriteNew<kLarge>>, kLarge},
    {"write-1m-rewrite", make<Rewrite<kLarge>>, kLarge},
    {"write-4k-fdatasync", make<Fsync>, kSmall},
    {"create", make<Create>, 100},
    {"stat", make<Stat>, 0},
    {"open", make<Open>, 0},
    {"rename", make<Rename>, 0},
    {"chmod", make<Chmod>, 0},
    {"unlink", make<Unlink>, 0},
    {"mkdir", make<Mkdir>, 0},
};

double run(const Row& row, const std::string& dir, int threads, double seconds) {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> done{0};
  std::barrier start(threads + 1), end(threads + 1);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      const std::string own = dir + "/thread" + std::to_string(t);
      std::filesystem::create_directories(own);
      auto workload = row.make(own);
      start.arrive_and_wait();
      uint64_t count = 0;
      while (!stop.load(std::memory_order_relaxed) && workload->more()) {
        workload->step();
        ++count;
      }
      done += count;
      end.arrive_and_wait();
      workload.reset();
      std::filesystem::remove_all(own);
    });
  }
  start.arrive_and_wait();
  const auto began = Clock::now();
  std::jthread clock([&](std::stop_token over) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any().wait_for(lock, over, std::chrono::duration<double>(seconds),
                                           [] { return false; });
    stop = true;
  });
  end.arrive_and_wait();
  const double took = std::chrono::duration<double>(Clock::now() - began).count();
  for (auto& t : running) t.join();
  return double(done) / took;
}

int usage() {
  std::fprintf(stderr, "usage: file_ops DIR WORKLOAD [--threads N] [--seconds S] | --list\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments == std::vector<std::string>{"--list"}) {
    for (const Row& row : kRows) std::printf("%s %zu\n", row.name, row.bytes);
    return 0;
  }
  if (arguments.size() < 2 || arguments.size() % 2) return usage();
  int threads = 1;
  double seconds = 1;
  for (size_t i = 2; i < arguments.size(); i += 2) {
    if (arguments[i] == "--threads")
      threads = std::atoi(arguments[i + 1].c_str());
    else if (arguments[i] == "--seconds")
      seconds = std::atof(arguments[i + 1].c_str());
    else
      return usage();
  }
  if (threads < 1 || threads > 256 || seconds <= 0) return usage();
  for (const Row& row : kRows) {
    if (arguments[1] != row.name) continue;
    std::printf("%.1f\n", run(row, arguments[0], threads, seconds));
    return 0;
  }
  std::fprintf(stderr, "file_ops: no workload %s; see --list\n", arguments[1].c_str());
  return 2;
}
