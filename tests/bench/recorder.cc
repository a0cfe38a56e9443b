// recorder: what does it cost to record a 4 KiB write?
//
//   recorder [DIR] [--threads N] [--writes N]
//
// Rewrites blocks of a file for each thread, once with the bare pwrite(2) and once as the
// mount does it: barrier, pre-image check, in-flight slot, record, dirty layers. Prints CPU
// time for each write, and the difference, as medians of interleaved rounds. The goal is a
// difference of at most 1.5 us, whatever the number of threads.
#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <barrier>
#include <filesystem>
#include <random>
#include <thread>

#include "fs/recording/pins.h"
#include "fs/recording/recorder.h"
#include "journal/log/reader.h"

namespace epochfs {
namespace {

constexpr size_t kBlock = 4096;
constexpr uint64_t kBlocks = 16384;  // 64 MiB a file
constexpr int kRounds = 7;

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "recorder: {}\n", result.error().message());
    std::exit(1);
  }
  return *std::move(result);
}

double thread_cpu_us() {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) * 1e6 + double(t.tv_nsec) / 1e3;
}

// What a mount has, without the mount.
struct Parts {
  explicit Parts(const std::string& dir)
      : backing(must(open_directory(dir))),
        volume(
            must(journal::Volume::create(Storage::system(), dir + "/volume",
                                         {.lineage = Uuid::random(),
                                          .identity = must(journal::identify_volume(backing.get())),
                                          .created_ns = now_ns(),
                                          .segment_bytes = journal::kDefaultSegmentBytes,
                                          .backing_path = dir}))) {
    EPOCHFS_CHECK(must(volume.lock()));
    journal::RecoveryReport report;
    auto lookup = [](const FileHandle&, std::string_view) { return journal::NamedFile{}; };
    journal = must(journal::Journal::open(Storage::system(), volume, lookup, report));
    pins = must(fs::Pins::create(volume, backing.get()));
    pins->restore({}, {}, EpochId{value(journal->open_epoch()) - 1});
    recorder.emplace(*journal, barrier, *pins, backing.get());
  }

  UniqueFd backing;
  journal::Volume volume;
  std::unique_ptr<journal::Journal> journal;
  fs::Barrier barrier;
  std::unique_ptr<fs::Pins> pins;
  std::optional<fs::Recorder> recorder;
};

class Writer {
 public:
  Writer(Parts& parts, const std::string& dir, int number) : parts_(parts), random_(number) {
    const std::string name = fmt::format("file{}", number);
    fd_.reset(::open((dir + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    struct statx a;
    EPOCHFS_CHECK(fd_ && identify(parts.backing.get(), name.c_str(), a, touched_.handle) == 0);
    touched_.id = file_id(a);
    touched_.fd = fd_.get();
    worker_ = *parts.recorder->add_worker();
    for (uint64_t block = 0; block < kBlocks; ++block) write(block * kBlock);
  }
  ~Writer() { parts_.recorder->remove_worker(worker_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // CPU time of this thread for each write, in us.
  double run(int writes, bool recorded) {
    const double began = thread_cpu_us();
    for (int i = 0; i < writes; ++i) {
      const uint64_t offset = random_() % kBlocks * kBlock;
      recorded ? record_and_write(offset) : write(offset);
    }
    return (thread_cpu_us() - began) / writes;
  }

 private:
  void write(uint64_t offset) {
    EPOCHFS_CHECK(::pwrite(fd_.get(), data_.data(), kBlock, off_t(offset)) == kBlock);
  }
  void record_and_write(uint64_t offset) {
    touched_.data = {offset, offset + kBlock};
    journal::Record intent;
    intent.type = journal::RecordType::kWrite;
    intent.caller = {1000, 1000, 4321};
    intent.file = touched_.id;
    intent.handle = touched_.handle;
    intent.range = touched_.data;
    const fs::Touched touched[] = {touched_};
    fs::Recorder::Mutation mutation(*parts_.recorder, worker_, intent, touched);
    write(offset);
    mutation.commit();
  }

  Parts& parts_;
  UniqueFd fd_;
  fs::Touched touched_;
  fs::Worker worker_;
  std::minstd_rand random_;
  std::vector<char> data_ = std::vector<char>(kBlock, 'x');
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void measure(const std::string& dir, int threads, int writes) {
  Parts parts(dir);
  std::vector<double> bare, recorded;
  std::barrier together(threads);
  std::mutex mutex;
  std::vector<std::jthread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      Writer writer(parts, dir, t);
      for (int round = 0; round < 2 * kRounds; ++round) {
        together.arrive_and_wait();
        const bool with = round % 2;
        const double us = writer.run(writes, with);
        std::lock_guard lock(mutex);
        (with ? recorded : bare).push_back(us);
      }
    });
  }
  running.clear();
  fmt::print("{} threads: {:.2f} us bare, {:.2f} us recorded: {:.2f} us for the record\n", threads,
             median(bare), median(recorded), median(recorded) - median(bare));
}

int usage() {
  fmt::print(stderr, "usage: recorder [DIR] [--threads N] [--writes N]\n");
  return 2;
}

int run(const std::vector<std::string>& arguments) {
  std::string below = "/var/tmp";
  int threads = 0, writes = 100'000;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const bool option = arguments[i] == "--threads" || arguments[i] == "--writes";
    if (!option && arguments[i].starts_with("-")) return usage();
    if (!option) {
      below = arguments[i];
      continue;
    }
    const int number = i + 1 < arguments.size() ? std::atoi(arguments[i + 1].c_str()) : 0;
    if (number < 1) return usage();
    (arguments[i++] == "--threads" ? threads : writes) = number;
  }
  for (int n : threads ? std::vector{threads} : std::vector{1, 2, 4}) {
    std::string dir = below + "/epochfs-bench.XXXXXX";
    if (!::mkdtemp(dir.data())) return usage();
    measure(dir, n, writes);
    std::filesystem::remove_all(dir);
  }
  return 0;
}

}  // namespace
}  // namespace epochfs

int main(int argc, char** argv) { return epochfs::run({argv + 1, argv + argc}); }
