#include "journal/commands/names/name_history.h"

#include <linux/fs.h>  // RENAME_EXCHANGE

#include <algorithm>
#include <atomic>
#include <thread>

namespace epochfs::journal {
namespace {

constexpr size_t kMaxKnown = 1 << 18;  // files whose steps are cached
constexpr unsigned kMaxThreads = 4;

constexpr bool makes_file(RecordType type) {
  return type == RecordType::kCreate || type == RecordType::kMakeDirectory ||
         type == RecordType::kMakeNode || type == RecordType::kSymlink ||
         type == RecordType::kTemporary;
}

// The names of one file, while the records that mention it are applied one by one.
class Names {
 public:
  struct Name {
    FileId parent;
    FileHandle handle;
    std::string text;

    bool operator==(const Name& o) const { return parent == o.parent && text == o.text; }
  };

  // Names that the file had before these records: those that it lost without having got them from a
  // record. Stops at the record that made the file, since there was no such file before.
  static std::vector<Name> before(const FileId& file, const std::vector<Record>& records) {
    Names names;
    for (const Record& r : records) {
      if (makes_file(r.type)) break;
      names.apply(file, r);
    }
    return names.had_before_;
  }

  explicit Names(std::vector<Name> at_first = {}) : present_(std::move(at_first)) {}

  void apply(const FileId& file, const Record& r) {
    const Name first{r.parent, r.parent_handle, std::string(r.name)};
    const Name second{r.parent2, r.parent2_handle, std::string(r.name2)};
    if (makes_file(r.type)) {  // an older file with the same identity is another file
      present_.clear();
      made_ = true;
    }
    if (r.type == RecordType::kRename) {
      if (r.other == r.file) return;  // two names of one file: rename(2) keeps both
      if (r.file == file) move(first, second);
      if (r.other != file) return;
      r.mode& RENAME_EXCHANGE ? move(second, first) : remove(second);
    } else if (r.type == RecordType::kUnlink || r.type == RecordType::kRemoveDirectory) {
      remove(first);
    } else if (r.type != RecordType::kTemporary) {
      add(first);
    }
  }

  NameStep step(Lsn from) const {
    NameStep out{.from = from};
    const Name* shown = !present_.empty() ? &present_.back() : last_ ? &*last_ : nullptr;
    if (shown) {
      out.state = present_.empty() ? NameStep::State::kGone : NameStep::State::kNamed;
      out.parent = shown->parent;
      out.parent_handle = shown->handle;
      out.name = shown->text;
    } else if (made_) {
      out.state = NameStep::State::kGone;  // it never had a name: O_TMPFILE
    }
    return out;
  }

 private:
  void add(const Name& name) {
    std::erase(present_, name);
    present_.push_back(name);
  }
  void remove(const Name& name) {
    if (std::erase(present_, name) == 0 && !made_) had_before_.push_back(name);
    last_ = name;
  }
  void move(const Name& from, const Name& to) {
    remove(from);
    add(to);
  }

  std::vector<Name> present_, had_before_;
  std::optional<Name> last_;
  bool made_ = false;
};

NameSteps steps_of(const FileId& file, const std::vector<Record>& records) {
  Names names(Names::before(file, records));
  NameSteps steps{names.step(Lsn{0})};
  for (const Record& r : records) {
    names.apply(file, r);
    NameStep next = names.step(r.lsn);
    const NameStep& last = steps.back();
    if (next.state != last.state || next.parent != last.parent || next.name != last.name) {
      steps.push_back(std::move(next));
    }
  }
  return steps;
}

}  // namespace

bool is_of_names(RecordType type) {
  switch (type) {
    case RecordType::kCreate:
    case RecordType::kMakeDirectory:
    case RecordType::kMakeNode:
    case RecordType::kSymlink:
    case RecordType::kLink:
    case RecordType::kUnlink:
    case RecordType::kRemoveDirectory:
    case RecordType::kRename:
    case RecordType::kTemporary:
    case RecordType::kUncertainName: return true;
    default: return false;
  }
}

uint64_t NameHistory::key_of(const FileId& file) {
  uint64_t h = std::hash<FileId>()(file) * 0x9E3779B97F4A7C15ull;
  return h ^ (h >> 32);
}

void NameHistory::collect(const RecordView& view, Buckets& into) {
  if (!is_of_names(view.head.type)) return;
  auto mention = [&](const FileId& file) {
    if (!file) return;
    const uint64_t key = key_of(file);
    into[key % kBuckets].push_back({key, value(view.head.lsn)});
  };
  mention(view.head.file);
  if (view.head.type != RecordType::kRename) return;
  const Decoded d = view.decode();
  if (d.error == DecodeError::kNone && d.record.other != d.record.file) mention(d.record.other);
}

void NameHistory::build() {
  built_ = true;
  const auto& segments = view_.segments();
  end_ = segments.empty() ? Lsn{0} : view_.end();
  const unsigned count =
      unsigned(std::min<size_t>({std::max(1u, std::thread::hardware_concurrency()), kMaxThreads,
                                 std::max<size_t>(1, segments.size())}));
  std::vector<Buckets> found(count);
  std::vector<std::vector<Damage>> holes(count);
  std::atomic<size_t> next{0};
  auto work = [&](unsigned number) {
    for (size_t i; (i = next++) < segments.size();) {
      LogView::scan(
          segments[i], segments[i].begin(),
          [&](const RecordView& view) {
            if (view.head.lsn < end_) collect(view, found[number]);
            return view.head.lsn < end_;
          },
          &holes[number]);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < count; ++i) threads.emplace_back(work, i);
  work(0);
  for (auto& thread : threads) thread.join();
  for (Buckets& each : found) take(each);
  for (const auto& each : holes) end_ = std::min(end_, first_in_flight(each));
}

Lsn NameHistory::first_in_flight(const std::vector<Damage>& holes) const {
  Lsn first{UINT64_MAX};
  for (const Damage& hole : holes) {
    if (hole.at >= view_.settled()) first = std::min(first, hole.at);
  }
  return first;
}

void NameHistory::take(Buckets& from) {
  for (size_t i = 0; i < kBuckets; ++i) {
    auto& into = buckets_[i];
    if (from[i].empty()) continue;
    into.sorted = false;
    if (into.mentions.empty()) {
      into.mentions = std::move(from[i]);
    } else {
      into.mentions.insert(into.mentions.end(), from[i].begin(), from[i].end());
    }
  }
}

bool NameHistory::catch_up(Lsn from) {
  if (!built_) return false;
  Buckets found;
  bool any = false;
  end_ = std::max(end_, from);
  for (const LogView::Segment& s : view_.segments()) {
    if (s.end() <= end_) continue;
    Lsn expected = std::max(end_, s.begin());
    bool in_flight = false;
    const Lsn end = LogView::scan(
        s, expected,
        [&](const RecordView& view) {
          in_flight = view.head.lsn != expected && expected >= view_.settled();
          if (in_flight) return false;
          expected = Lsn{value(view.head.lsn) + view.head.bytes};
          any = any || is_of_names(view.head.type);
          collect(view, found);
          return true;
        },
        nullptr, kTailReach);
    const bool nothing = expected == std::max(end_, s.begin());
    if (!nothing) end_ = in_flight ? expected : end;
    if (in_flight || (nothing && !s.any)) break;
  }
  take(found);
  if (any) known_.clear();
  return any;
}

std::vector<Record> NameHistory::mentions_of(const FileId& file) {
  const uint64_t key = key_of(file);
  Bucket& bucket = buckets_[key % kBuckets];
  if (!bucket.sorted) std::sort(bucket.mentions.begin(), bucket.mentions.end());
  bucket.sorted = true;
  std::vector<Record> out;
  auto at = std::lower_bound(bucket.mentions.begin(), bucket.mentions.end(), Mention{key, 0});
  for (; at != bucket.mentions.end() && at->key == key; ++at) {
    const Decoded d = view_.record_at(Lsn{at->lsn});
    if (d.error != DecodeError::kNone) continue;
    if (d.record.file == file || d.record.other == file) out.push_back(d.record);
  }
  return out;
}

const NameSteps& NameHistory::steps(const FileId& file) {
  if (!built_) build();
  auto known = known_.find(file);
  if (known != known_.end()) return known->second;
  if (known_.size() >= kMaxKnown) known_.clear();
  return known_[file] = steps_of(file, mentions_of(file));
}

}  // namespace epochfs::journal
