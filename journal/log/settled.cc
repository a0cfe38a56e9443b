#include "journal/log/settled.h"

#include <fcntl.h>
#include <xxhash.h>

#include <cstring>

#include "journal/base/format.h"
#include "journal/base/unix.h"

namespace epochfs::journal {
namespace {

struct Mark {
  char magic[8];
  uint64_t position;
  uint64_t checksum;
};
static_assert(sizeof(Mark) == kSettledBytes);

uint64_t checksum_of(const Mark& mark) { return XXH3_64bits(&mark, offsetof(Mark, checksum)); }

std::string encoded(Lsn up_to) {
  Mark mark{};
  set_magic(mark.magic, kSettledMagic);
  mark.position = value(up_to);
  mark.checksum = checksum_of(mark);
  return std::string(reinterpret_cast<const char*>(&mark), sizeof mark);
}

}  // namespace

Result<std::optional<Lsn>> read_settled(int volume_dir) {
  auto bytes = read_file(volume_dir, kSettledFile, kSettledBytes);
  std::optional<Lsn> none;
  if (!bytes && bytes.error().code == ENOENT) return none;
  // A file that is too long is damaged, too.
  if (!bytes && bytes.error().code != 0 && bytes.error().code != EFBIG) {
    return tl::unexpected(bytes.error());
  }
  if (!bytes || bytes->size() != kSettledBytes) return none;
  Mark mark;
  std::memcpy(&mark, bytes->data(), sizeof mark);
  if (!has_magic(mark.magic, kSettledMagic)) return none;
  if (mark.checksum != checksum_of(mark)) return none;
  return std::optional(Lsn{mark.position});
}

Result<void> make_settled(Storage& storage, int volume_dir, Lsn up_to) {
  return storage.replace_file("settled-make", volume_dir, kSettledFile, encoded(up_to));
}

Result<void> write_settled(Storage& storage, int volume_dir, Lsn up_to) {
  UniqueFd fd(::openat(volume_dir, kSettledFile, O_WRONLY | O_CLOEXEC));
  if (!fd) return fail_errno("open settled");
  const std::string bytes = encoded(up_to);
  EPOCHFS_DO(pwrite_full(fd.get(), bytes.data(), bytes.size(), 0, kSettledFile));
  return storage.sync_data("settled", fd.get(), kSettledFile);
}

}  // namespace epochfs::journal
