#include "journal/commands/opened_journal.h"

#include <fmt/format.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace epochfs::journal {

Result<bool> OpenedJournal::mounted() const {
  EPOCHFS_TRY(bool unlocked, volume.wait_unlocked(0));
  return !unlocked;
}

Result<OpenedJournal> open_journal(const std::string& dir_or_journal) {
  EPOCHFS_TRY(std::string path, journal_path_of(dir_or_journal));
  EPOCHFS_TRY(Volume volume, Volume::open(path));
  OpenedJournal out{std::move(volume), {}};
  if (path != dir_or_journal) {
    std::unique_ptr<char, void (*)(void*)> real(::realpath(dir_or_journal.c_str(), nullptr),
                                                std::free);
    if (real) out.roots.push_back(real.get());
  }
  out.roots.push_back(out.volume.info().backing_path);
  return out;
}

ExitStatus tell_damage(const Volume& volume, const std::vector<Damage>& damage, ExitStatus other) {
  for (const Damage& d : damage) {
    fmt::print(stderr, "epochfs: journal {}: {} bytes at LSN {} are no record ({})\n",
               volume.path(), d.bytes, value(d.at), decode_error_name(d.error));
  }
  if (damage.empty()) return other;
  fmt::print(stderr, "epochfs: see: epochfs journal verify {}\n", volume.path());
  return ExitStatus::kCorrupt;
}

}  // namespace epochfs::journal
