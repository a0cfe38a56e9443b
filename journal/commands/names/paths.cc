#include "journal/commands/names/paths.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

namespace epochfs::journal {
namespace {

constexpr size_t kMaxKnown = 1 << 18;

// A hash in which every bit depends on the whole identity. The lowest bit is set.
uint64_t mixed(const FileId& file) {
  return XXH3_64bits_withSeed(&file.inode, sizeof file.inode, file.birth_ns) | 1;
}

bool holds(Lsn from, Lsn until, Lsn at) { return from <= at && at < until; }

}  // namespace

std::string Path::shown() const {
  if (text.empty()) return ".";
  return known && text[0] == '#' ? "./" + text : text;
}

PathResolver::PathResolver(const LogView& view, Options options)
    : history_(view),
      options_(std::move(options)),
      root_(view.volume().info().identity.root),
      volume_(view.volume()) {
  if (!options_.globs.empty()) verdicts_.resize(kVerdicts);
}

Path PathResolver::path_of(const Record& r) {
  if (has_names(r)) return finished(below(r.parent, r.parent_handle, r.name, r.lsn, 0));
  if (!r.file) return {.matched = options_.globs.empty()};
  return of_file(r.file, r.handle, r.lsn, 0).path;
}

Path PathResolver::new_path_of(const Record& r) {
  return finished(below(r.parent2, r.parent2_handle, r.name2, r.lsn, 0));
}

std::optional<bool> PathResolver::matched(const RecordHead& head) const {
  if (verdicts_.empty()) return std::nullopt;
  const uint64_t key = mixed(head.file);
  const uint64_t* place = &verdicts_[place_of(key)];
  for (size_t i = 0; i < kPlaces; ++i) {
    if ((place[i] | 1) == key) return place[i] != key;
  }
  return std::nullopt;
}

void PathResolver::note_verdict(const FileId& file, const Known& known) {
  if (verdicts_.empty() || known.from != Lsn{0} || known.until != Lsn{UINT64_MAX}) return;
  const uint64_t key = mixed(file);
  uint64_t* place = &verdicts_[place_of(key)];
  // If all places are taken, the oldest entry is dropped.
  if ((place[0] | 1) == key) return;
  for (size_t i = kPlaces - 1; i > 0; --i) place[i] = place[i - 1];
  place[0] = known.path.matched ? key & ~uint64_t{1} : key;
}

void PathResolver::forget() {
  known_.clear();
  std::fill(verdicts_.begin(), verdicts_.end(), 0);
}

const PathResolver::Known& PathResolver::of_file(const FileId& file, const FileHandle& handle,
                                                 Lsn at, int depth) {
  auto found = known_.find(file);
  if (found == known_.end() || !holds(found->second.from, found->second.until, at)) {
    Known known = find(file, handle, at, depth);
    known.path = finished(known);
    if (known_.size() >= kMaxKnown) known_.clear();
    found = known_.insert_or_assign(file, std::move(known)).first;
  }
  const Known& known = found->second;
  note_verdict(file, known);
  return known;
}

PathResolver::Known PathResolver::find(const FileId& file, const FileHandle& handle, Lsn at,
                                       int depth) {
  if (file == root_) return {};
  if (!options_.names || depth > kMaxDepth) return placeholder(file);
  const NameSteps* steps = &history_.steps(file);
  auto step_at = [&](Lsn lsn) {
    return std::upper_bound(steps->begin(), steps->end(), lsn,
                            [](Lsn l, const NameStep& s) { return l < s.from; }) -
           1;
  };
  if (step_at(at)->state == NameStep::State::kUnknown) {
    if (!backing_opened_) backing_ = BackingNames::of(volume_);
    backing_opened_ = true;
    auto now = backing_.locate(file, handle);
    // The file may have got that name after the history was built. Then the log says so.
    if (now && history_.catch_up()) {
      forget();
      steps = &history_.steps(file);
    }
    auto step = step_at(at);
    const bool since_told =
        now && std::any_of(steps->begin(), steps->end(), [&](const NameStep& s) {
          return s.state == NameStep::State::kNamed && s.parent == now->parent &&
                 s.name == now->name;
        });
    if (step->state == NameStep::State::kUnknown) {
      Known known =
          now && !since_told ? below(now->parent, {}, now->name, at, depth + 1) : placeholder(file);
      known.from = std::max(known.from, step->from);
      if (step + 1 != steps->end()) known.until = std::min(known.until, (step + 1)->from);
      return known;
    }
  }
  // Copied, since resolving a directory above may invalidate the steps.
  const auto found = step_at(at);
  const NameStep step = *found;
  const Lsn until = found + 1 == steps->end() ? Lsn{UINT64_MAX} : (found + 1)->from;
  Known known = step.parent ? below(step.parent, step.parent_handle, step.name, at, depth + 1)
                            : placeholder(file);
  known.from = std::max(known.from, step.from);
  known.until = std::min(known.until, until);
  known.path.gone = known.path.gone || step.state == NameStep::State::kGone;
  return known;
}

PathResolver::Known PathResolver::below(const FileId& parent, const FileHandle& handle,
                                        std::string_view name, Lsn at, int depth) {
  Known known = of_file(parent, handle, at, depth);
  if (!known.path.text.empty()) known.path.text += '/';
  known.path.text += name;
  return known;
}

PathResolver::Known PathResolver::placeholder(const FileId& file) const {
  Known known;
  known.path.text = fmt::format("#{}", file.inode);
  known.path.known = false;
  return known;
}

Path PathResolver::finished(Known known) const {
  known.path.matched = options_.globs.empty() || options_.globs.match(known.path.text);
  return std::move(known.path);
}

ShownRecord show(const Record& record, PathResolver& paths) {
  ShownRecord shown{record, paths.path_of(record), {}};
  if (record.parent2) shown.new_path = paths.new_path_of(record);
  return shown;
}

}  // namespace epochfs::journal
