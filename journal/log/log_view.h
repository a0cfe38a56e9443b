// LogView: where do the records stand that one looks for, without reading all of them?
//
// It maps the segment files of one volume for reading, and knows the first record of each. So a
// search for a time, an epoch or a position touches few of them. It checks every record that it
// passes, but decodes only those that are asked for. JournalReader (reader.h) replays records.
//
// It never disturbs a mount: mappings are read-only, and it takes no lock. One thread; only scan()
// may be called by several threads at a time, on different segments.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "journal/log/reader.h"

namespace epochfs::journal {

// How far behind the last whole record another one can stand: all writers together can have no
// more in flight.
constexpr size_t kTailReach = kMaxTornBytes;

// How the journal was left. This decides what a hole behind the newest barrier is. In a clean
// journal it is damage. In a live one it may be a record that is being copied. In an unclean one it
// may be the record of a writer that was killed.
enum class Left { kClean, kUnclean, kLive };

// A record in place. Valid as long as the view.
struct RecordView {
  RecordHead head;
  std::span<const std::byte> bytes;

  // May fail, although decode_head() accepted the record: it does not look at operands.
  Decoded decode() const { return journal::decode(bytes, head.lsn); }
};

class LogView {
 public:
  struct Segment {
    uint64_t index = 0;
    std::string name;  // of the file
    std::span<const std::byte> bytes;
    uint64_t base = 0;  // position of its first byte
    bool any = false;   // it holds a record, the first of which is:
    RecordHead first;

    Lsn begin() const { return Lsn{base + kSegmentHeaderBytes}; }
    Lsn end() const { return Lsn{base + bytes.size()}; }
  };

  // A view of no segment. Borrows the volume.
  explicit LogView(const Volume& volume) : volume_(&volume) {}
  // Borrows the volume. Errors: a segment is damaged, or belongs to another volume (kCorrupt). With
  // `broken`, such segments are left out instead, and it gets their errors by index.
  // `left` must be true until the view is open; after a refresh() the journal counts as live.
  static Result<LogView> open(const Volume& volume, std::map<uint64_t, Error>* broken = nullptr,
                              Left left = Left::kLive);
  // Maps segments that are new, and unmaps those that were removed meanwhile.
  Result<void> refresh(std::map<uint64_t, Error>* broken = nullptr);

  // The segments that have a header, in the order of the log.
  const std::vector<Segment>& segments() const { return segments_; }
  // The segment that holds the position. Null: none does.
  const Segment* segment_of(Lsn at) const;
  // The first position that can still be read.
  Lsn oldest() const;
  // The position behind the last record. Reads the last segment that holds any.
  Lsn end() const;
  // The record that begins at the position, or why none does.
  Decoded record_at(Lsn at) const;
  // What is no record before this is damage. What is no record behind it may be one that is being
  // copied at this moment, or was when its writer was killed. The newest seal when the view was
  // opened or refreshed; of a journal that was left clean, and where the manifest cannot be read:
  // no position is behind it.
  Lsn settled() const { return settled_; }
  // The newest seal, as the manifest has it. nullopt: none, or the manifest cannot be read.
  std::optional<Lsn> sealed() const { return sealed_; }
  // What must have been behind end(): records up to the newest seal, and in a journal that was left
  // clean whatever the bytes there were. Reads the last segment that holds any records.
  std::optional<Damage> lost_behind_end() const;
  const Volume& volume() const { return *volume_; }

  // Calls f(RecordView) -> bool for each record of the segment from `from` on, padding included,
  // until f returns false. Returns the position behind the last one. `damage` is as for
  // scan_segment(). Behind bytes that are no record it looks no further than `reach`: a caller that
  // waits at the end of a log need not read all the zeros behind it.
  template <typename F>
  static Lsn scan(const Segment& segment, Lsn from, F&& f, std::vector<Damage>* damage = nullptr,
                  size_t reach = SIZE_MAX);
  // The same backwards, from the last record that begins before `before` to the first. Returns the
  // position behind that last record.
  template <typename F>
  static Lsn scan_backwards(const Segment& segment, Lsn before, F&& f,
                            std::vector<Damage>* damage = nullptr);

 private:
  class Mapping {
   public:
    Mapping(const std::byte* data, size_t size) : data_(data), size_(size) {}
    ~Mapping();
    Mapping(const Mapping&) = delete;
    std::span<const std::byte> bytes() const { return {data_, size_}; }

   private:
    const std::byte* data_;
    size_t size_;
  };
  // At most the first `limit` bytes. Null: the file was removed meanwhile.
  static Result<std::unique_ptr<Mapping>> map(int dir, const std::string& name, uint64_t limit);
  static void find_first(Segment& segment);
  Result<void> add(uint64_t index, const std::string& name, std::unique_ptr<Mapping> mapping);

  const Volume* volume_;
  Lsn settled_{};
  std::optional<Lsn> sealed_;
  Left left_ = Left::kLive;
  std::vector<Segment> segments_;
  std::map<uint64_t, std::unique_ptr<Mapping>> mappings_;
};

// The offset of the next record of a segment at or behind offset `at`, as decode_head() judges;
// the segment's size if there is none.
size_t next_valid_record(std::span<const std::byte> segment, uint64_t base, size_t at);

template <typename F>
Lsn LogView::scan(const Segment& segment, Lsn from, F&& f, std::vector<Damage>* damage,
                  size_t reach) {
  size_t at = kSegmentHeaderBytes;
  if (value(from) > segment.base + at) at = size_t(value(from) - segment.base);
  Lsn end{segment.base + std::min(at, segment.bytes.size())};
  RecordView view;
  while (at < segment.bytes.size()) {
    const Lsn lsn{segment.base + at};
    const auto rest = segment.bytes.subspan(at);
    if (DecodeError error = decode_head(rest, lsn, view.head); error != DecodeError::kNone) {
      const size_t within = segment.bytes.size() - at > reach ? at + reach : segment.bytes.size();
      const size_t next =
          next_valid_record(segment.bytes.first(within), segment.base, at + kRecordAlignment);
      if (next == within) break;
      if (damage) damage->push_back({lsn, next - at, error});
      at = next;
      continue;
    }
    view.bytes = rest.first(view.head.bytes);
    at += view.head.bytes;
    end = Lsn{segment.base + at};
    if (!f(static_cast<const RecordView&>(view))) break;
  }
  return end;
}

template <typename F>
Lsn LogView::scan_backwards(const Segment& segment, Lsn before, F&& f,
                            std::vector<Damage>* damage) {
  // A record does not say where the one before it begins, so their places are found from the
  // front. For the largest segment they take a few megabytes.
  std::vector<uint32_t> places;
  const Lsn end = scan(
      segment, segment.begin(),
      [&](const RecordView& view) {
        if (view.head.lsn >= before) return false;
        places.push_back(uint32_t(value(view.head.lsn) - segment.base));
        return true;
      },
      damage);
  RecordView view;
  for (auto at = places.rbegin(); at != places.rend(); ++at) {
    const auto rest = segment.bytes.subspan(*at);
    if (decode_head(rest, Lsn{segment.base + *at}, view.head) != DecodeError::kNone) continue;
    view.bytes = rest.first(view.head.bytes);
    if (!f(static_cast<const RecordView&>(view))) break;
  }
  return end;
}

}  // namespace epochfs::journal
