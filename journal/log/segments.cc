#include "journal/log/segments.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "journal/log/reader.h"
#include "journal/log/record.h"

namespace epochfs::journal {
namespace {

constexpr uint64_t kRetryAfterNs = 1'000'000'000;  // no room: how soon to look again

// Unlike the wall clock it never jumps.
uint64_t steady_ns() {
  auto since_start = std::chrono::steady_clock::now().time_since_epoch();
  return uint64_t(std::chrono::duration_cast<std::chrono::nanoseconds>(since_start).count());
}

}  // namespace

Segments::Segment::~Segment() {
  if (map) ::munmap(map, bytes);
}

Segments::Segments(Storage& storage, const Volume& volume, UniqueFd dir, Lsn tail)
    : storage_(storage),
      lineage_(volume.info().lineage),
      segment_bytes_(volume.info().segment_bytes),
      dir_(std::move(dir)),
      tail_(value(tail)),
      first_mapped_(value(tail) / segment_bytes_),
      first_unsynced_(first_mapped_) {}

Segments::~Segments() {
  {
    Lock lock(prepare_mutex_);
    stop_ = true;
  }
  prepare_wanted_.notify_all();
  if (preparer_.joinable()) preparer_.join();
  for (auto& entry : mapped_) delete entry.segment.load();
}

Result<std::unique_ptr<Segments>> Segments::open(Storage& storage, const Volume& volume,
                                                 UniqueFd dir, Lsn tail) {
  std::unique_ptr<Segments> self(new Segments(storage, volume, std::move(dir), tail));
  const uint64_t size = self->segment_bytes_;
  const uint64_t index = (value(tail) + kSegmentHeaderBytes) / size;
  if (index >= kPositionLimit / size) {
    return fail(
        fmt::format("open journal {}: it has used up all positions; move the folder away "
                    "to begin a new one",
                    volume.path()));
  }
  if (!self->prepare(index)) {
    return fail(fmt::format("allocate {} bytes for journal {}; free space there, or name another "
                            "place with --journal",
                            size, volume.path()),
                ENOSPC);
  }
  self->preparer_ = std::thread([s = self.get()] { s->prepare_ahead(); });
  return self;
}

// ---- making segments ----

// Makes segment `index` ready for appending; false: no room. `ahead`: nobody waits for it.
bool Segments::prepare(uint64_t index, bool ahead) {
  if (index >= kPositionLimit / segment_bytes_) return false;
  bool made = false;
  {
    Lock lock(prepare_mutex_);
    // The preparer may come late, when the segment is full and retired already.
    if (index < first_mapped_) return false;
    const Segment* present = mapped_[index % kMappedSegments].segment.load();
    if (present && present->index == index) return true;
    // The open epoch takes up the whole ring: it is to be sealed.
    made = !present && make_segment(index, ahead);
    short_of_room_ = !made;
  }
  Lock lock(listener_mutex_);
  segments_come_();
  return made;
}

void Segments::when_segments_come(std::function<void()> wanted) {
  Lock lock(listener_mutex_);
  segments_come_ = std::move(wanted);
}

void Segments::look_for_room() {
  Lock lock(prepare_mutex_);
  const uint64_t index = tail_ / segment_bytes_ + 1;
  const Segment* present = mapped_[index % kMappedSegments].segment.load();
  if (present ? present->index == index : make_segment(index, true)) {
    short_of_room_ = false;
    retry_at_ns_ = 0;
  }
}

bool Segments::make_segment(uint64_t index, bool ahead) {
  Mapped& entry = mapped_[index % kMappedSegments];
  const std::string name = segment_name(index);
  auto segment = std::make_unique<Segment>();
  segment->index = index;
  segment->fd.reset(::openat(dir_.get(), name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640));
  if (!segment->fd) return false;
  // A file that is shorter than a header holds nothing, whatever it begins with.
  struct stat st;
  if (::fstat(segment->fd.get(), &st) != 0) return false;
  if (size_t(st.st_size) < kSegmentHeaderBytes && ::ftruncate(segment->fd.get(), 0) != 0) {
    return false;
  }
  if (!storage_.allocate("segment", segment->fd.get(), segment_bytes_, name)) {
    // An empty remnant would take the space that another try needs.
    if (index * segment_bytes_ + kSegmentHeaderBytes >= tail_) {
      ::unlinkat(dir_.get(), name.c_str(), 0);
    }
    return false;
  }
  // Otherwise the first fsync in it would have to write all those zeros.
  if (ahead && !storage_.sync_data("segment-allocate", segment->fd.get(), name)) return false;
  void* map =
      ::mmap(nullptr, segment_bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd.get(), 0);
  if (map == MAP_FAILED) return false;
  segment->map = static_cast<std::byte*>(map);
  segment->bytes = segment_bytes_;
  if (segment->map[0] == std::byte{0}) {
    write_segment_header({segment->map, segment_bytes_}, lineage_, index, segment_bytes_);
  }
  if (!storage_.sync_directory("segment-create", dir_.get(), "segments")) return false;
  entry.segment.store(segment.release());
  entry.index.store(index, std::memory_order_release);
  return true;
}

void Segments::prepare_ahead() {
  Lock lock(prepare_mutex_);
  uint64_t done = 0;
  for (;;) {
    while (!stop_ && wanted_segment_ <= done) prepare_wanted_.wait(lock);
    if (stop_) return;
    done = wanted_segment_;
    lock.unlock();
    prepare(done, true);  // if there is no room, reserve() finds out
    lock.lock();
  }
}

// Half a segment ahead of need. When the mutex is taken, the next record asks again.
void Segments::prepare_behind(Lsn end) {
  const uint64_t index = value(end) / segment_bytes_;
  if (value(end) % segment_bytes_ <= segment_bytes_ / 2) return;
  if (at((index + 1) * segment_bytes_)) return;
  if (!prepare_mutex_.try_lock()) return;
  if (wanted_segment_ <= index) {
    wanted_segment_ = index + 1;
    prepare_wanted_.notify_one();
  }
  prepare_mutex_.unlock();
}

// ---- reserving ----

// Address of a position, or null when its segment is not mapped. No caller asks for a position
// before the newest seal, so what it finds here is not retired while it is used.
std::byte* Segments::at(uint64_t position) {
  const uint64_t index = position / segment_bytes_;
  const Mapped& entry = mapped_[index % kMappedSegments];
  if (entry.index.load(std::memory_order_acquire) != index) return nullptr;
  return entry.segment.load()->map + position % segment_bytes_;
}

std::byte* Segments::reserve(size_t size, Lsn& lsn) {
  uint64_t tail = tail_.load(std::memory_order_relaxed);
  for (;;) {
    uint64_t begin = tail;
    uint64_t offset = tail % segment_bytes_;
    if (offset == 0) begin = tail + kSegmentHeaderBytes;
    if (offset + size > segment_bytes_)
      begin = tail - offset + segment_bytes_ + kSegmentHeaderBytes;
    std::byte* to = at(begin);
    if (!to) {
      if (steady_ns() < retry_at_ns_.load(std::memory_order_relaxed)) return nullptr;
      if (!prepare(begin / segment_bytes_)) {
        retry_at_ns_ = steady_ns() + kRetryAfterNs;
        return nullptr;
      }
      tail = tail_.load(std::memory_order_relaxed);
      continue;
    }
    // Released, so that sync() finds the segments up to the tail that it reads.
    if (!tail_.compare_exchange_weak(tail, begin + size, std::memory_order_release,
                                     std::memory_order_relaxed)) {
      continue;
    }
    lsn = Lsn{begin};
    uint64_t left = begin / segment_bytes_ == tail / segment_bytes_ || offset == 0
                        ? 0
                        : segment_bytes_ - offset;
    if (left >= kRecordHeaderBytes) {
      // The end of the old segment must not look like the end of the log.
      encode_padding(Lsn{tail}, {at(tail), left});
    }
    return to;
  }
}

// ---- durability ----

Result<void> Segments::sync() {
  const uint64_t arrival = sync_arrivals_.fetch_add(1) + 1;
  Lock lock(sync_mutex_);
  if (sync_served_ >= arrival) return {};
  const uint64_t serving = sync_arrivals_.load();
  const uint64_t last = tail_.load() / segment_bytes_;
  for (uint64_t index = first_unsynced_; index <= last; ++index) {
    // Not by the entry's index: retire_before() may be clearing the entry just now. The segment
    // itself stays until this mutex is free.
    const Segment* segment = mapped_[index % kMappedSegments].segment.load();
    if (!segment || segment->index != index) continue;
    EPOCHFS_DO(storage_.sync_data("segment-sync", segment->fd.get(), segment_name(index)));
  }
  sync_served_ = serving;
  return {};
}

void Segments::retire_before(Lsn seal) {
  const uint64_t index = value(seal) / segment_bytes_;
  std::vector<std::unique_ptr<Segment>> retired;
  {
    Lock lock(prepare_mutex_);
    for (; first_mapped_ < index; ++first_mapped_) {
      Mapped& entry = mapped_[first_mapped_ % kMappedSegments];
      if (entry.index.load() != first_mapped_) continue;
      entry.index.store(kNoSegment);
      retired.emplace_back(entry.segment.exchange(nullptr));
    }
  }
  Lock lock(sync_mutex_);
  first_unsynced_ = std::max(first_unsynced_, index);
  retired.clear();
}

}  // namespace epochfs::journal
