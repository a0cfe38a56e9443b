#include "journal/commands/opened_journal.h"

#include <fmt/format.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "journal/control/printing.h"
#include "journal/log/in_flight.h"

namespace epochfs::journal {

Result<bool> OpenedJournal::mounted() const {
  auto unlocked = volume.wait_unlocked(0);
  if (!unlocked && unlocked.error().status == ExitStatus::kCorrupt) return false;
  EPOCHFS_TRY(bool free, std::move(unlocked));
  return !free;
}

Result<Left> OpenedJournal::how_left() const {
  EPOCHFS_TRY(bool held, mounted());
  if (held) return Left::kLive;
  auto slots = look_at_in_flight(volume.dir());
  return slots && slots->started && slots->clean ? Left::kClean : Left::kUnclean;
}

Result<OpenedLog> OpenedJournal::open_log() const {
  EPOCHFS_TRY(const Left left, how_left());
  std::map<uint64_t, Error> broken;
  EPOCHFS_TRY(LogView view, LogView::open(volume, &broken, left));
  return OpenedLog{std::move(view), std::move(broken)};
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

ExitStatus tell_damage(const OpenedLog& log, const std::vector<Damage>& damage, ExitStatus other) {
  const std::string path = printable(log.view.volume().path());
  for (const auto& [index, error] : log.broken) {
    fmt::print(stderr, "epochfs: journal {}: {}\n", path, printable(error.message()));
  }
  for (const Damage& d : damage) {
    fmt::print(stderr, "epochfs: journal {}: {} bytes at LSN {} are no record ({})\n", path,
               d.bytes, value(d.at), decode_error_name(d.error));
  }
  if (damage.empty() && log.broken.empty()) return other;
  fmt::print(stderr, "epochfs: see: epochfs journal verify {}\n", path);
  return ExitStatus::kCorrupt;
}

}  // namespace epochfs::journal
