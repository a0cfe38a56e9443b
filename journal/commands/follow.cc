// `epochfs journal follow`: which records are being added?
//
// Records reach the log through the mount's mapping, which raises no file event. So the end of the
// log is polled: after 20 ms, then less and less often, down to four times a second. A barrier or a
// new segment (inotify) ends a wait at once. A look costs some ten microseconds and no system call.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/inotify.h>

#include <chrono>
#include <cstdio>
#include <map>

#include "journal/base/signals.h"
#include "journal/commands/opened_journal.h"
#include "journal/commands/output.h"
#include "journal/commands/query/cursor_file.h"
#include "journal/commands/query/selection.h"
#include "journal/commands/record_text.h"
#include "journal/commands/subcommands.h"
#include "journal/control/printing.h"

namespace epochfs::journal {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kFirstWaitMs = 20, kLongestWaitMs = 250;
// A record that is incomplete for this long has lost its writer. The next mount records what became
// of the mutation.
constexpr auto kHolePatience = std::chrono::seconds(10);
constexpr uint64_t kBatch = 1 << 16;  // records between two cursors

const CommandHelp kHelp = {
    "epochfs journal follow DIR-or-journal [FILTERS] [--cursor FILE] [--limit N] [--json]",
    "Prints records as they come, like `epochfs journal list`, until it is interrupted. Begins\n"
    "at the cursor if FILE exists; else where --since or --epoch say; else with the next\n"
    "record. The cursor is written after what was printed, in one step: whoever is stopped\n"
    "and started again may see the last records twice, and misses none. New records show up\n"
    "within a quarter of a second.\n"
    "Exit status: 0 interrupted, or N records printed; 1 failed, 2 usage, 3 records were\n"
    "missed, because they were removed before they were read, or are damaged.",
};

// Watches the files that change when a segment is added or an epoch is sealed.
class Changes {
 public:
  explicit Changes(const Volume& volume) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    // Of the folder that is open, whatever its path leads to by now.
    const std::string folder = proc_path(volume.dir()) + "/";
    ::inotify_add_watch(fd_.get(), (folder + kSegmentsDir).c_str(),
                        IN_CREATE | IN_MOVED_TO | IN_DONT_FOLLOW);
    ::inotify_add_watch(fd_.get(), (folder + kEpochsFile).c_str(), IN_MODIFY | IN_DONT_FOLLOW);
  }
  // -1 if this user has no watches left. Then only the timer ends a wait.
  int fd() const { return fd_.get(); }
  void clear() {
    alignas(inotify_event) char events[4096];
    while (::read(fd_.get(), events, sizeof events) > 0) {
    }
  }

 private:
  UniqueFd fd_;
};

class Follower {
 public:
  Follower(LogView& view, const RecordFilter& filter, bool json, uint64_t limit, bool mounted)
      : view_(view),
        paths_(view, {.globs = filter.globs()}),
        selection_(filter, paths_),
        json_(json),
        limit_(limit),
        text_(Programs(mounted)) {}

  void begin_at(Lsn at) { at_ = at; }
  Lsn at() const { return at_; }
  bool done() const { return printed_ >= limit_; }
  bool missed() const { return missed_; }

  // Prints the records that are there, at most a batch. Returns how many it read.
  Result<uint64_t> drain();
  Result<void> flush() { return out_.flush(); }

 private:
  bool take(const RecordView& record);
  Result<bool> next_segment();
  bool look_again();
  bool step_over_lost_end();
  bool step_over_hole(Lsn to);
  void miss(Lsn to, const char* why);

  LogView& view_;
  std::map<uint64_t, Error> broken_;  // segments that cannot be read
  PathResolver paths_;
  Selection selection_;
  const bool json_;
  const uint64_t limit_;
  Lsn at_{};
  uint64_t printed_ = 0;
  bool missed_ = false;
  Lsn hole_{};  // the hole at which it waits
  Clock::time_point hole_seen_;
  RecordText text_;
  Output out_;
};

bool Follower::take(const RecordView& record) {
  at_ = Lsn{value(record.head.lsn) + record.head.bytes};
  selection_.choose(record, true, [&](const ShownRecord& shown) {
    json_ ? text_.json(shown, out_.text()) : text_.line(shown, out_.text());
    ++printed_;
  });
  out_.line_done();
  return !done();
}

Result<uint64_t> Follower::drain() {
  uint64_t count = 0;
  while (!done() && count < kBatch) {
    const LogView::Segment* s = view_.segment_of(at_);
    std::optional<Lsn> behind_hole;
    const uint64_t before = count;
    bool too_new = false;
    if (s) {
      paths_.catch_up(at_);
      LogView::scan(
          *s, at_,
          [&](const RecordView& record) {
            if (record.head.lsn != std::max(at_, s->begin())) {
              behind_hole = record.head.lsn;
              return false;
            }
            // A path is right only if all earlier records are known.
            too_new = !paths_.covers(record.head.lsn);
            if (too_new) return false;
            ++count;
            return take(record) && count < kBatch;
          },
          nullptr, kTailReach);
    }
    if (behind_hole) {
      if (!step_over_hole(*behind_hole)) return count;
    } else if (count == before && !too_new) {
      EPOCHFS_TRY(bool moved, next_segment());
      if (!moved) return count;
    }
  }
  return count;
}

// This segment holds no more records. Moves to the next one that does; false: there is none yet.
Result<bool> Follower::next_segment() {
  broken_.clear();
  EPOCHFS_DO(view_.refresh(&broken_));
  if (at_ < view_.settled() && look_again()) return true;
  for (const LogView::Segment& s : view_.segments()) {
    if (!s.any || s.begin() <= at_) continue;
    const uint64_t left = s.base > value(at_) ? s.base - value(at_) : 0;
    if (view_.segments().front().begin() > at_ && &s == &view_.segments().front()) {
      miss(s.begin(), "were removed before they were read");
    } else if (left >= kRecordHeaderBytes && !step_over_hole(s.begin())) {
      return false;
    }
    at_ = s.begin();
    return true;
  }
  return step_over_lost_end();
}

// Whether this segment holds more records now. Since it was read, some may have been added and
// sealed.
bool Follower::look_again() {
  const LogView::Segment* s = view_.segment_of(at_);
  std::optional<Lsn> more;
  if (s) {
    LogView::scan(*s, at_, [&](const RecordView& record) {
      more = record.head.lsn;
      return false;
    });
  }
  if (!more) return false;
  if (*more != std::max(at_, s->begin()) && value(*more) - value(at_) > kTailReach) {
    miss(*more, "are no records");
    at_ = *more;
  }
  return true;
}

// No record follows. Says what should: records up to the newest seal, and segments that cannot be
// read.
bool Follower::step_over_lost_end() {
  const uint64_t size = view_.volume().info().segment_bytes;
  uint64_t to = value(at_);
  if (view_.sealed() && at_ <= *view_.sealed()) {
    const uint64_t seal = std::min(value(*view_.sealed()), kPositionLimit);
    to = (seal + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment + kRecordHeaderBytes;
  }
  for (const auto& [index, error] : broken_) {
    if (index < kPositionLimit / size) to = std::max(to, (index + 1) * size);
  }
  if (to == value(at_)) return false;
  miss(Lsn{to}, "are missing");
  at_ = Lsn{to};
  return true;
}

// False: the hole may be a record that is being copied.
bool Follower::step_over_hole(Lsn to) {
  if (at_ >= view_.settled()) {
    if (hole_ != at_) hole_seen_ = Clock::now();
    hole_ = at_;
    if (Clock::now() - hole_seen_ < kHolePatience) return false;
  }
  miss(to, "are no records");
  at_ = to;
  return true;
}

void Follower::miss(Lsn to, const char* why) {
  missed_ = true;
  fmt::print(stderr, "epochfs: journal {}: {} bytes at LSN {} {}\n",
             printable(view_.volume().path()), value(to) - value(at_), value(at_), why);
}

// Returns false when a signal asks to end.
bool wait(int timeout_ms, Changes& changes, const HeldSignals& signals) {
  pollfd watched[] = {{changes.fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}};
  ::poll(watched, 2, timeout_ms);
  changes.clear();
  return watched[1].revents == 0;
}

Result<void> follow(Follower& follower, const Volume& volume, CursorFile* cursor) {
  HeldSignals signals(signal_set({SIGINT, SIGTERM}), HeldSignals::Unasked::kIsDropped);
  Changes changes(volume);
  Lsn saved{};
  for (int wait_ms = kFirstWaitMs;;) {
    EPOCHFS_TRY(uint64_t count, follower.drain());
    if (auto flushed = follower.flush(); !flushed) {
      if (flushed.error().code == EPIPE) return {};  // the reader has gone: main ends the command
      return flushed;
    }
    if (cursor && follower.at() != saved) EPOCHFS_DO(cursor->write(follower.at()));
    saved = follower.at();
    if (follower.done()) return {};
    wait_ms = count ? kFirstWaitMs : std::min(2 * wait_ms, kLongestWaitMs);
    // Behind a full batch there is more, so only look whether a signal came.
    if (!wait(count >= kBatch ? 0 : wait_ms, changes, signals)) return {};
  }
}

Result<Lsn> where_to_begin(const LogView& view, const RecordFilter& filter, bool bounded,
                           const CursorFile* cursor) {
  const Lsn end = view.end();
  if (cursor) {
    EPOCHFS_TRY(auto kept, cursor->read());
    if (kept && *kept <= end) return *kept;
    if (kept) {
      fmt::print(stderr,
                 "epochfs: journal {}: it ends at LSN {}, before the cursor ({}); going on "
                 "at its end\n",
                 printable(view.volume().path()), value(end), value(*kept));
      return end;
    }
  }
  if (!bounded) return end;
  const LogQuery query(view, filter.bounds(), end);
  if (query.segments().empty()) return end;
  return std::max(query.from(), query.segments().front()->begin());
}

}  // namespace

Result<ExitStatus> journal_follow(const Arguments& arguments) {
  Options options;
  RecordFilter::add_options(options);
  options.text("cursor", "FILE", "go on where FILE says, and keep it")
      .number("limit", "N", "end after N lines")
      .flag("json", "one JSON object a line")
      .argument(kJournalArgument);
  EPOCHFS_TRY(auto parsed, parse_command(kHelp, options, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  EPOCHFS_TRY([[maybe_unused]] RecordFilter checked, RecordFilter::parse(parsed, {}, now_ns()));
  EPOCHFS_TRY(auto journal, open_journal(parsed.text(kJournalArgument)));
  EPOCHFS_TRY(RecordFilter filter, RecordFilter::parse(parsed, journal.roots, now_ns()));

  std::optional<CursorFile> cursor;
  if (auto file = parsed.maybe_text("cursor")) {
    EPOCHFS_TRY(cursor, CursorFile::open(*file, journal.volume.info().lineage));
  }
  std::map<uint64_t, Error> broken;  // the follower meets them again where they matter
  EPOCHFS_TRY(LogView view, LogView::open(journal.volume, &broken));
  EPOCHFS_TRY(bool mounted, journal.mounted());
  Follower follower(view, filter, parsed.has("json"),
                    parsed.maybe_number("limit").value_or(UINT64_MAX), mounted);
  const bool bounded = parsed.has("since") || parsed.has("epoch");
  EPOCHFS_TRY(Lsn begin, where_to_begin(view, filter, bounded, cursor ? &*cursor : nullptr));
  follower.begin_at(begin);
  EPOCHFS_DO(follow(follower, journal.volume, cursor ? &*cursor : nullptr));
  return follower.missed() ? ExitStatus::kPartial : ExitStatus::kOk;
}

}  // namespace epochfs::journal
