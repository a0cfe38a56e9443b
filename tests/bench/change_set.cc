// change_set: what memory and time does the net effect of many changed files take?
//
//   change_set FOLDER [--files N]
//
// Folds records of N distinct files (by default a million) as the daemon does before it ships
// them: writes, creates, renames; then the writes and creates out of a checkpoint in FOLDER.
// Each runs in a process of its own. Prints a line for each: peak memory of the process, memory
// for one file, and time.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "journal/changes/change_set.h"
#include "journal/changes/checkpoint.h"

namespace {

using namespace epochfs;

constexpr FileId kRoot{2, 1};
constexpr uint64_t kFirstFile = 1 << 20, kBirth = 1'700'000'000'000'000'000,
                   kFilesOfDirectory = 1000;

template <typename T>
T must(Result<T> result) {
  if (result) return *std::move(result);
  std::fprintf(stderr, "change_set: %s\n", result.error().message().c_str());
  std::exit(1);
}
void must(Result<void> result) {
  if (result) return;
  std::fprintf(stderr, "change_set: %s\n", result.error().message().c_str());
  std::exit(1);
}

FileId file_of(uint64_t i) { return {kFirstFile + i, kBirth + i}; }
FileId directory_of(uint64_t i) { return {kRoot.inode + 1 + i / kFilesOfDirectory, kBirth}; }

// As XFS makes them.
FileHandle handle_of(const FileId& file) {
  FileHandle h{.type = 0x81, .size = 12};
  std::memcpy(h.bytes.data(), &file.inode, 8);
  return h;
}

journal::Record record_of(journal::RecordType type, uint64_t i) {
  journal::Record r;
  r.type = type;
  r.lsn = Lsn{4096 + i * 128};
  r.file = file_of(i);
  r.handle = handle_of(r.file);
  return r;
}

void write(journal::Fold& fold, uint64_t i) {
  journal::Record r = record_of(journal::RecordType::kWrite, i);
  r.range = {0, 4096};
  fold.add(r);
}

void create(journal::Fold& fold, uint64_t i) {
  journal::Record r = record_of(journal::RecordType::kCreate, i);
  const std::string name = "file-" + std::to_string(i) + ".dat";
  r.parent = directory_of(i);
  r.parent_handle = handle_of(r.parent);
  r.name = name;
  fold.add(r);
}

void rename(journal::Fold& fold, uint64_t i) {
  journal::Record r = record_of(journal::RecordType::kRename, i);
  const std::string name = "file-" + std::to_string(i) + ".tmp",
                    name2 = "file-" + std::to_string(i);
  r.parent = r.parent2 = directory_of(i);
  r.parent_handle = r.parent2_handle = handle_of(r.parent);
  r.name = name;
  r.name2 = name2;
  fold.add(r);
}

// In a process of its own.
void measure(const char* name, uint64_t files, const std::function<size_t()>& work) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  if (child == 0) {
    rusage before{}, after{};
    ::getrusage(RUSAGE_SELF, &before);
    const auto began = std::chrono::steady_clock::now();
    const size_t entries = work();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    ::getrusage(RUSAGE_SELF, &after);
    const double bytes = double(after.ru_maxrss - before.ru_maxrss) * 1024;
    std::printf("%-22s %8zu entries  %8.1f MiB  %6.1f bytes a file  %6.2f s\n", name, entries,
                bytes / (1 << 20), bytes / double(files), seconds);
    std::fflush(stdout);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (status != 0) std::exit(1);
}

using Step = void (*)(journal::Fold&, uint64_t);

size_t fold_records(uint64_t files, Step step) {
  journal::Fold fold;
  for (uint64_t i = 0; i < files; ++i) step(fold, i);
  const journal::ChangeSet set = fold.finish();
  return set.files.size() + set.names.size();
}

constexpr journal::CheckpointInfo kInfo{
    .first = EpochId{1}, .last = EpochId{1}, .seal = Lsn{1 << 30}};

void make_checkpoint(int dir, uint64_t files, Step step) {
  journal::Fold fold(journal::Fold::Keep::kLinks);
  for (uint64_t i = 0; i < files; ++i) step(fold, i);
  const journal::ChangeSet set = fold.take();
  auto writer = must(journal::CheckpointWriter::create(Storage::system(), dir, kInfo));
  std::vector<FileId> ids;
  for (const auto& [id, change] : set.files) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const FileId& id : ids) writer->add(id, set.files.at(id));
  for (const auto& [key, change] : set.names) writer->add(key, change);
  must(writer->finish());
}

size_t fold_checkpoint(int dir) {
  auto checkpoint =
      must(journal::Checkpoint::open(dir, journal::checkpoint_name(kInfo.first, kInfo.last), {}));
  journal::Fold fold;
  FileId id;
  journal::FileChange file;
  for (journal::Checkpoint::Files files(*checkpoint); files.next(id, file);) fold.add(id, file);
  journal::NameKey key;
  journal::NameChange name;
  for (journal::Checkpoint::Names names(*checkpoint); names.next(key, name);) fold.add(key, name);
  const journal::ChangeSet set = fold.finish();
  return set.files.size() + set.names.size();
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t files = 1'000'000;
  if (argc == 4 && std::strcmp(argv[2], "--files") == 0)
    files = std::strtoull(argv[3], nullptr, 10);
  if ((argc != 2 && argc != 4) || files == 0) {
    std::fprintf(stderr, "usage: change_set FOLDER [--files N]\n");
    return 2;
  }
  const int dir = ::open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) {
    std::perror(argv[1]);
    return 1;
  }
  measure("writes", files, [&] { return fold_records(files, write); });
  measure("creates", files, [&] { return fold_records(files, create); });
  measure("renames", files, [&] { return fold_records(files, rename); });
  measure("checkpoint, made", files, [&] {
    make_checkpoint(dir, files, write);
    return size_t(files);
  });
  measure("checkpoint, writes", files, [&] { return fold_checkpoint(dir); });
  measure("checkpoint, made", files, [&] {
    make_checkpoint(dir, files, create);
    return size_t(files);
  });
  measure("checkpoint, creates", files, [&] { return fold_checkpoint(dir); });
  ::unlinkat(dir, journal::checkpoint_name(kInfo.first, kInfo.last).c_str(), 0);
  return 0;
}
