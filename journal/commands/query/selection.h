// Selection: was this record asked for, and which path does it have? Asks filter and paths, the
// cheap questions first. One thread.
#pragma once

#include "journal/commands/names/paths.h"
#include "journal/commands/query/filter.h"

namespace epochfs::journal {

class Selection {
 public:
  // Borrows both.
  Selection(const RecordFilter& filter, PathResolver& paths) : filter_(filter), paths_(paths) {}

  // Calls f(ShownRecord) if the record was asked for. with_path: its path is resolved even if no
  // glob needs it.
  template <typename F>
  void choose(const RecordView& view, bool with_path, F&& f) {
    if (!filter_.accepts(view.head)) return;
    const bool globs = !filter_.globs().empty();
    if (globs && !is_of_names(view.head.type)) {
      if (auto matched = paths_.matched(view.head); matched && !*matched) return;
    }
    const Decoded d = view.decode();
    if (d.error != DecodeError::kNone || !filter_.accepts_operands(d.record)) return;
    if (!globs && !with_path) return f(ShownRecord{d.record, {}, {}});
    const ShownRecord shown = show(d.record, paths_);
    const bool new_matches = d.record.parent2 && shown.new_path.matched;
    if (!globs || shown.path.matched || new_matches) f(shown);
  }

 private:
  const RecordFilter& filter_;
  PathResolver& paths_;
};

}  // namespace epochfs::journal
