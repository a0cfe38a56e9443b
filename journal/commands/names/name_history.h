// NameHistory: which name did a file have at which moment, as far as the journal tells?
//
// Renames make a name something that holds for a while. What is known of a file before
// its first mention follows from that: who is unlinked at a name, or renamed away from
// it, had that name before. Names that no record mentions are not known here
// (backing_names.h may find them).
//
// Costs 16 bytes for each record of a name, and one pass over the log, made with all
// processors when the first name is asked for. Names themselves stay in the log.
#pragma once

#include <array>
#include <unordered_map>
#include <vector>

#include "journal/log/log_view.h"

namespace epochfs::journal {

// Whether records of this type say what a name means.
bool is_of_names(RecordType type);

// From a record on, until the next step of the same file.
struct NameStep {
  enum class State {
    kUnknown,  // it had a name that no record mentions, or none
    kNamed,
    kGone,  // its last known name was taken away: parent and name are that one
  };
  Lsn from{};
  State state = State::kUnknown;
  FileId parent;
  FileHandle parent_handle;
  std::string name;
};
// In the order of the log, beginning with Lsn{0}; never empty.
using NameSteps = std::vector<NameStep>;

class NameHistory {
 public:
  // Borrows the view.
  explicit NameHistory(const LogView& view) : view_(view) {}

  // Valid until the next call of anything.
  const NameSteps& steps(const FileId& file);
  // Takes in what was appended since, up to a record that is being copied at this moment
  // unless it stands before `from`. Whoever got to know a name from elsewhere asks again
  // afterwards, for it may have come to be in between. True: anything new.
  bool catch_up(Lsn from = Lsn{0});
  // Whether what it says of the moment of that record is all that there is to say.
  bool covers(Lsn at) const { return !built_ || at < end_; }

 private:
  struct Mention {
    uint64_t key;  // a hash of the file: all are told apart when the records are read
    uint64_t lsn;

    auto operator<=>(const Mention&) const = default;
  };
  // Sorted when it is first looked into.
  struct Bucket {
    std::vector<Mention> mentions;
    bool sorted = true;
  };
  static constexpr size_t kBuckets = 256;
  using Buckets = std::array<std::vector<Mention>, kBuckets>;

  static uint64_t key_of(const FileId& file);
  static void collect(const RecordView& view, Buckets& into);
  void build();
  Lsn first_in_flight(const std::vector<Damage>& holes) const;
  void take(Buckets& from);
  std::vector<Record> mentions_of(const FileId& file);

  const LogView& view_;
  bool built_ = false;
  Lsn end_{};  // what lies before it is in
  std::array<Bucket, kBuckets> buckets_;
  std::unordered_map<FileId, NameSteps> known_;
};

}  // namespace epochfs::journal
