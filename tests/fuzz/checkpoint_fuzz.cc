// Fuzz target: a checkpoint file. Changes that pass the checks are told in order, are found
// by identity, and come back the same when they are written anew. Everything else is an error
// that names the damage. The first byte of an input says whether the checksums and the length
// are right.

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cstdio>
#include <cstring>

#include "journal/changes/checkpoint.h"

#include "tests/fuzz/memory_folder.h"
#include "tests/fuzz/sealing.h"
#include "tests/fuzz/target.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/journal/changes/checkpoint_support.h"

namespace epochfs {
namespace {

constexpr size_t kHeader = 128;
enum Options : uint8_t { kSealAll = 1, kRightLength = 2 };

struct NoSync : Storage {
  Result<void> publish_file(const char*, int dir, int, const std::string& temporary,
                            const std::string& name) override {
    EPOCHFS_CHECK(::renameat(dir, temporary.c_str(), dir, name.c_str()) == 0);
    return {};
  }
};

void check(const journal::Checkpoint& c) {
  // Its maps put in order what is not, and drop what is there twice: the counts would tell.
  const testing::CheckpointContent content = testing::content_of(c);
  EPOCHFS_CHECK(content.files.size() == c.info().files && content.names.size() == c.info().names);
  for (const auto& [id, change] : content.files) {
    const auto found = c.find(id);
    EPOCHFS_CHECK(found && *found == change);
  }
  EPOCHFS_CHECK(!c.find({UINT64_MAX, UINT64_MAX - 1}) || content.files.size() > 0);

  NoSync storage;
  static const UniqueFd dir = testing::must(open_directory(fuzz::memory_folder().path()));
  auto writer = testing::must(journal::CheckpointWriter::create(storage, dir.get(), c.info()));
  for (const auto& [id, change] : content.files) writer->add(id, change);
  for (const auto& [key, change] : content.names) writer->add(key, change);
  testing::must(writer->finish());
  const std::string name = journal::checkpoint_name(c.info().first, c.info().last);
  EPOCHFS_CHECK(testing::content_of(*testing::must(
                    journal::Checkpoint::open(dir.get(), name, c.info().lineage))) == content);
  EPOCHFS_CHECK(::unlinkat(dir.get(), name.c_str(), 0) == 0);
}

}  // namespace

namespace fuzz {

const uint64_t kShortRun = 150'000;

std::vector<std::string> seeds(testing::Random& random) {
  std::vector<std::string> out;
  NoSync storage;
  for (uint8_t options = 0; options < 4; ++options) {
    testing::TemporaryDirectory dir;
    UniqueFd fd = testing::must(open_directory(dir.path()));
    const journal::CheckpointInfo info{.first = EpochId{1 + random.below(5)},
                                       .last = EpochId{9},
                                       .gap = random.one_in(8),
                                       .records = random.below(1000)};
    auto writer = testing::must(journal::CheckpointWriter::create(storage, fd.get(), info));
    uint64_t inode = 0;
    for (uint64_t n = random.below(70); n > 0; --n) {
      writer->add(FileId{inode += 1 + random.below(3), 1}, testing::random_change(random));
    }
    std::string name;
    for (uint64_t n = random.below(8); n > 0; --n) {
      name += char('a' + random.below(26));
      writer->add(journal::NameKey{{2, 1}, name},
                  journal::NameChange{random.one_in(2), {random.below(3), 1}, {1, 1}});
    }
    testing::must(writer->finish());
    out.push_back(std::string(1, char(options)) +
                  testing::read_whole_file(dir / journal::checkpoint_name(info.first, info.last)));
  }
  return out;
}

}  // namespace fuzz
}  // namespace epochfs

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace epochfs;
  if (size == 0) return 0;
  std::vector<std::byte> in(size - 1);
  if (!in.empty()) std::memcpy(in.data(), data + 1, in.size());
  std::string name = journal::checkpoint_name(EpochId{1}, EpochId{9});
  if (in.size() >= kHeader) {
    auto put = [&](size_t at, uint64_t value) { std::memcpy(&in[at], &value, sizeof value); };
    if (data[0] & kRightLength) put(104, in.size());
    if (data[0] & kSealAll) {
      put(112, XXH3_64bits(in.data() + kHeader, in.size() - kHeader));
      fuzz::seal_before(in, kHeader - 8);
    }
    uint64_t first, last;
    std::memcpy(&first, &in[32], sizeof first);
    std::memcpy(&last, &in[40], sizeof last);
    name = journal::checkpoint_name(EpochId{first}, EpochId{last});
  }
  auto checkpoint = journal::Checkpoint::parse(in, name);
  if (checkpoint) check(**checkpoint);
  if (!checkpoint) {
    EPOCHFS_CHECK(checkpoint.error().what.find(name) != std::string::npos);
  }
  return 0;
}
