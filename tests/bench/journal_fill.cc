// journal_fill: how fast does the journal take records, and how fast does it recover?
//
//   journal_fill FOLDER [--records N] [--threads T] [--files F] [--recovery-bytes B]
//
// Makes the journal FOLDER/filled with N records, as a busy file server would leave them: all
// types of FORMAT.md, mixed, in ten sealed epochs. Then kills a journal that has B bytes in
// its open epoch, and opens it. Prints figures as NAME VALUE lines. tests/bench/journal runs
// this and then asks the journal questions.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "journal/log/journal.h"
#include "journal/log/reader.h"
#include "journal/volume/volume.h"

namespace {

using namespace epochfs;
using Clock = std::chrono::steady_clock;

struct Options {
  std::string folder;
  uint64_t records = 10'000'000, threads = 1, files = 200'000, recovery_bytes = 1 << 30;
};

template <typename T>
T must(Result<T> result) {
  if (result) return *std::move(result);
  std::fprintf(stderr, "journal_fill: %s\n", result.error().message().c_str());
  std::exit(1);
}
void must(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "journal_fill: %s\n", result.error().message().c_str());
  std::exit(1);
}

double seconds_since(Clock::time_point began) {
  return std::chrono::duration<double>(Clock::now() - began).count();
}

// Nothing is measured that the disk would have to be waited for.
class NoSync : public Storage {
  Result<void> sync_data(const char*, int, std::string_view) override { return {}; }
  Result<void> sync_directory(const char*, int, std::string_view) override { return {}; }
};

constexpr FileId kRoot{2, 1};
constexpr uint64_t kDirectories = 1000, kFirstFile = 1 << 20, kBirth = 1'700'000'000'000'000'000;

FileHandle handle_of(const FileId& file) {
  FileHandle h{.type = 1, .size = 8};
  std::memcpy(h.bytes.data(), &file.inode, 8);
  return h;
}

journal::Record of(journal::RecordType type, uint64_t inode) {
  journal::Record r;
  r.type = type;
  r.file = {inode, kBirth};
  r.handle = handle_of(r.file);
  r.caller = {uint32_t(1000 + inode % 7), 100, uint32_t(4000 + inode % 97)};
  return r;
}

journal::Record of_name(journal::RecordType type, uint64_t inode, const FileId& parent,
                        std::string_view name) {
  journal::Record r = of(type, inode);
  r.parent = parent;
  r.parent_handle = handle_of(parent);
  r.name = name;
  return r;
}

FileId directory_of(uint64_t inode) { return {100 + inode % kDirectories, kBirth}; }

// The i-th record of a mix: one name in twenty, one attribute in twenty, writes.
void append_mixed(journal::Journal& journal, const Options& options, uint64_t i) {
  const uint64_t inode = kFirstFile + (i * 2654435761u) % options.files;
  char name[32], other[32];
  std::snprintf(name, sizeof name, "file-%llu.dat", static_cast<unsigned long long>(inode));
  std::snprintf(other, sizeof other, "file-%llu.tmp", static_cast<unsigned long long>(inode));
  journal::Record r = of(journal::RecordType::kWrite, inode);
  r.range = {i % 1000 * 4096, i % 1000 * 4096 + 4096};
  if (i % 20 == 0) {
    r = of_name(journal::RecordType::kRename, inode, directory_of(inode), other);
    r.parent2 = r.parent;
    r.parent2_handle = r.parent_handle;
    r.name2 = name;
  } else if (i % 20 == 10) {
    r = of(journal::RecordType::kSetAttributes, inode);
  }
  journal.append(r);
}

void make_directories(journal::Journal& journal) {
  for (uint64_t d = 0; d < kDirectories; ++d) {
    const std::string name = "directory-" + std::to_string(d);
    const FileId parent = d < 10 ? kRoot : FileId{100 + d % 10, kBirth};
    journal::Record r = of_name(journal::RecordType::kMakeDirectory, 100 + d, parent, name);
    journal.append(r);
  }
}

journal::Volume make_volume(Storage& storage, const std::string& path) {
  journal::VolumeInfo info;
  info.lineage = Uuid::random();
  info.identity = {.filesystem = 1, .root = kRoot};
  info.created_ns = now_ns();
  info.segment_bytes = journal::kDefaultSegmentBytes;
  info.backing_path = "/nowhere/epochfs-bench";
  return must(journal::Volume::create(storage, path, info));
}

journal::NamedFile nothing(const FileHandle&, std::string_view) { return {}; }

void fill(const Options& options) {
  NoSync storage;
  journal::Volume volume = make_volume(storage, options.folder + "/filled");
  journal::RecoveryReport report;
  auto journal = must(journal::Journal::open(storage, volume, nothing, report));
  make_directories(*journal);
  const auto began = Clock::now();
  constexpr uint64_t kEpochs = 10;
  for (uint64_t epoch = 0; epoch < kEpochs; ++epoch) {
    const uint64_t first = options.records * epoch / kEpochs;
    const uint64_t last = options.records * (epoch + 1) / kEpochs;
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < options.threads; ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t i = first + t; i < last; i += options.threads) {
          append_mixed(*journal, options, i);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    must(journal->publish(journal->seal()));
  }
  const double took = seconds_since(began);
  const journal::JournalStatistics s = journal->statistics();
  std::printf("append_per_second %.0f\n", double(options.records) / took);
  std::printf("bytes_per_record %.1f\n", double(s.bytes) / double(s.records));
  std::printf("journal_bytes %llu\n", static_cast<unsigned long long>(s.bytes));
  must(journal->close());
}

void recover(const Options& options) {
  NoSync storage;
  journal::Volume volume = make_volume(storage, options.folder + "/killed");
  journal::RecoveryReport report;
  {
    auto journal = must(journal::Journal::open(storage, volume, nothing, report));
    for (uint64_t i = 0; journal->statistics().bytes < options.recovery_bytes;) {
      for (uint64_t end = i + 100'000; i < end; ++i) append_mixed(*journal, options, i);
    }
  }
  const auto began = Clock::now();
  auto journal = must(journal::Journal::open(storage, volume, nothing, report));
  std::printf("recovery_seconds %.2f\n", seconds_since(began));
  std::printf("recovery_records %llu\n", static_cast<unsigned long long>(report.records_read));
  journal.reset();
  std::filesystem::remove_all(options.folder + "/killed");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    auto number = [&] { return ++i < argc ? std::strtoull(argv[i], nullptr, 10) : 0; };
    if (option == "--records")
      options.records = number();
    else if (option == "--threads")
      options.threads = number();
    else if (option == "--files")
      options.files = number();
    else if (option == "--recovery-bytes")
      options.recovery_bytes = number();
    else
      options.folder = option;
  }
  if (options.folder.empty() || !options.records || !options.threads || !options.files) {
    std::fprintf(stderr,
                 "usage: journal_fill FOLDER [--records N] [--threads T] [--files F] "
                 "[--recovery-bytes B]\n");
    return 2;
  }
  fill(options);
  if (options.recovery_bytes) recover(options);
  return 0;
}
