#include "journal/log/journal.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "journal/log/reader.h"

namespace epochfs::journal {

// Makes segment `index` ready for appending; false: no room. `ahead`: nobody waits.
bool Journal::prepare(uint64_t index, bool ahead) {
  if (index >= kPositionLimit / segment_bytes_) return false;
  bool made = false;
  {
    std::lock_guard lock(prepare_mutex_);
    // The preparer may come late, when the segment is full and retired already.
    if (index < synced_segment_) return false;
    const Segment* present = mapped_[index % kMappedSegments].segment.load();
    if (present && present->index == index) return true;
    // The open epoch takes up the whole ring: it is to be sealed.
    made = !present && make_segment(index, ahead);
    short_of_room_ = !made;
  }
  std::lock_guard lock(listener_mutex_);
  segments_come_();
  return made;
}

void Journal::when_segments_come(std::function<void()> wanted) {
  std::lock_guard lock(listener_mutex_);
  segments_come_ = std::move(wanted);
}

void Journal::look_for_room() {
  std::lock_guard lock(prepare_mutex_);
  const uint64_t index = tail_ / segment_bytes_ + 1;
  const Segment* present = mapped_[index % kMappedSegments].segment.load();
  if (present ? present->index == index : make_segment(index, true)) {
    short_of_room_ = false;
    retry_at_ns_ = 0;
  }
}

// With prepare_mutex_ held.
bool Journal::make_segment(uint64_t index, bool ahead) {
  Mapped& entry = mapped_[index % kMappedSegments];
  const std::string name = segment_name(index);
  auto segment = std::make_unique<Segment>();
  segment->index = index;
  segment->fd.reset(
      ::openat(segments_dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!segment->fd) return false;
  // What is shorter than a header holds nothing, whatever it begins with.
  struct stat st;
  if (::fstat(segment->fd.get(), &st) != 0) return false;
  if (size_t(st.st_size) < kSegmentHeaderBytes && ::ftruncate(segment->fd.get(), 0) != 0) {
    return false;
  }
  if (!storage_.allocate("segment", segment->fd.get(), segment_bytes_, name)) {
    // An empty remnant would take the space that another try needs.
    if (index * segment_bytes_ + kSegmentHeaderBytes >= tail_) {
      ::unlinkat(segments_dir_.get(), name.c_str(), 0);
    }
    return false;
  }
  // Or the first fsync in it would have all those zeros to wait for.
  if (ahead && !storage_.sync_data("segment-allocate", segment->fd.get(), name)) return false;
  void* map =
      ::mmap(nullptr, segment_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd.get(), 0);
  if (map == MAP_FAILED) return false;
  segment->map = static_cast<std::byte*>(map);
  segment->bytes = segment_bytes_;
  if (segment->map[0] == std::byte{0}) {
    write_segment_header({segment->map, segment_bytes_}, volume_.info().lineage, index,
                         segment_bytes_);
  }
  if (!storage_.sync_directory("segment-create", segments_dir_.get(), "segments")) return false;
  entry.segment.store(segment.release());
  entry.index.store(index, std::memory_order_release);
  return true;
}

void Journal::prepare_ahead() {
  std::unique_lock lock(prepare_mutex_);
  uint64_t done = 0;
  for (;;) {
    prepare_wanted_.wait(lock, [&] { return stop_ || wanted_segment_ > done; });
    if (stop_) return;
    done = wanted_segment_;
    lock.unlock();
    prepare(done, true);  // if there is no room, append() finds out
    lock.lock();
  }
}

// Address of a position, or null when its segment is not mapped. Who appends asks
// for no position before the newest seal, so what is found here is not retired
// while it is used.
std::byte* Journal::at(uint64_t position) {
  const uint64_t index = position / segment_bytes_;
  const Mapped& entry = mapped_[index % kMappedSegments];
  if (entry.index.load(std::memory_order_acquire) != index) return nullptr;
  return entry.segment.load()->map + position % segment_bytes_;
}

Result<void> Journal::sync() {
  const uint64_t arrival = sync_arrivals_.fetch_add(1) + 1;
  std::lock_guard lock(sync_mutex_);
  if (sync_served_ >= arrival) return {};
  const uint64_t serving = sync_arrivals_.load();
  const uint64_t last = tail_.load() / segment_bytes_;
  for (uint64_t index = synced_segment_; index <= last; ++index) {
    const Mapped& entry = mapped_[index % kMappedSegments];
    if (entry.index.load(std::memory_order_acquire) != index) continue;
    const Segment* segment = entry.segment.load();
    EPOCHFS_DO(storage_.sync_data("segment-sync", segment->fd.get(), segment_name(index)));
  }
  sync_served_ = serving;
  return {};
}

// Unmaps durable segments that lie wholly before a seal: when it was made nobody
// was copying into any segment, and since then everybody appends behind it.
void Journal::retire_before(uint64_t index) {
  std::scoped_lock lock(prepare_mutex_, sync_mutex_);
  for (; synced_segment_ < index; ++synced_segment_) {
    Mapped& entry = mapped_[synced_segment_ % kMappedSegments];
    if (entry.index.load() != synced_segment_) continue;
    entry.index.store(kNoSegment);
    delete entry.segment.exchange(nullptr);
  }
}

}  // namespace epochfs::journal
