#include "fs/recording/pins.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstring>

#include "journal/base/directory.h"
#include "journal/preimages/attributes.h"

namespace epochfs::fs {
namespace {

constexpr size_t kCopyBytes = 256 << 10;  // of a pre-image read at once
// Blocks are shared, if the file system can, from this many bytes on; and from the second number
// on if some of the bytes are dirty in the page cache.
constexpr uint64_t kWorthSharing = 256 << 10;
constexpr uint64_t kWorthWritingBack = 16 << 20;
constexpr int kReadFlags = O_RDONLY | O_NOATIME | O_NONBLOCK | O_CLOEXEC;

Result<void> empty_directory(int dir) {
  return for_each_entry(dir, "pre-images", [&](const char* name) -> Result<void> {
    if (name[0] == '.' || ::unlinkat(dir, name, 0) == 0) return {};
    return fail_errno(fmt::format("remove pre-image log {}", name));
  });
}

// Dirty bytes in the page cache, from cachestat(2). Older kernels do not have it: then all may be.
uint64_t dirty_bytes(int fd, ByteRange range) {
  constexpr long kCachestat = 451;  // on every architecture
  const struct { uint64_t offset, length; } asked{range.begin, range.length()};
  struct {
    uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } found{};
  if (::syscall(kCachestat, fd, &asked, &found, 0) != 0) return range.length();
  return (found.dirty + found.writeback) * uint64_t(::sysconf(_SC_PAGESIZE));
}

// A quarter of what the process may open: the rest is the mount's own.
int descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 256;
  return int(std::min<rlim_t>(limit.rlim_cur / 4, 1 << 18));
}

}  // namespace

Result<std::unique_ptr<Pins>> Pins::create(const journal::Volume& volume, int backing_dir) {
  if (::mkdirat(volume.dir(), journal::kPreimagesDir, 0700) != 0 && errno != EEXIST) {
    return fail_errno("make directory pre-images");
  }
  UniqueFd dir(::openat(volume.dir(), journal::kPreimagesDir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return fail_errno("open directory pre-images");
  EPOCHFS_DO(empty_directory(dir.get()));
  return std::unique_ptr<Pins>(new Pins(std::move(dir), backing_dir));
}

Pins::Pins(UniqueFd logs_dir, int backing_dir)
    : logs_dir_(std::move(logs_dir)),
      backing_dir_(backing_dir),
      pins_(std::make_shared<PinList>()),
      descriptors_left_(descriptor_limit()) {}

Pins::~Pins() = default;

Result<std::unique_ptr<journal::PreImageWriter>> Pins::make_log() {
  return journal::PreImageWriter::create(logs_dir_.get(), fmt::format("pin-{}", ++logs_made_));
}

std::shared_ptr<Pins::Pin> Pins::pin(EpochId since, EpochId sealed,
                                     std::unique_ptr<journal::PreImageWriter> log) {
  std::shared_ptr<Pin> pin(new Pin(layers_.changes_since(since), sealed, std::move(log),
                                   backing_dir_, descriptors_left_));
  Lock lock(pins_mutex_);
  auto changed = std::make_shared<PinList>(*pins_);
  changed->push_back(pin);
  pinned_.store(changed->size(), std::memory_order_release);
  pins_ = std::move(changed);
  return pin;
}

void Pins::unpin(const std::shared_ptr<Pin>& pin) {
  {
    Lock lock(pins_mutex_);
    auto changed = std::make_shared<PinList>(*pins_);
    std::erase(*changed, pin);
    pinned_.store(changed->size(), std::memory_order_release);
    pins_ = std::move(changed);
  }
  compact();
}

std::shared_ptr<const Pins::PinList> Pins::list() const {
  Lock lock(pins_mutex_);
  return pins_;
}

void Pins::save_for_pins(const Touched& touched) {
  if (!touched.id) return;
  auto pins = list();  // keeps a pin alive that is dropped meanwhile
  uint64_t bytes = 0;
  for (const auto& pin : *pins) {
#ifdef EPOCHFS_WITHOUT_PREIMAGES  // with this, tests prove that they notice missing bytes
    Touched without = touched;
    without.data = {};
    pin->save(without);
#else
    pin->save(touched);
#endif
    bytes += pin->given_up() ? 0 : pin->log_bytes();
  }
  if (growth_ != 0) tell_of_growth(bytes);
}

void Pins::when_logs_grow(uint64_t by, std::function<void()> f) {
  growth_ = by;
  when_logs_grow_ = std::move(f);
}

void Pins::tell_of_growth(uint64_t bytes) {
  uint64_t told = told_at_.load(std::memory_order_relaxed);
  if (bytes >= told && bytes - told < growth_) return;
  // The thread that moves the mark calls. The mark follows shrinking logs, too.
  if (!told_at_.compare_exchange_strong(told, bytes, std::memory_order_relaxed)) return;
  if (bytes > told) when_logs_grow_();
}

void Pins::cursors_are(const std::vector<EpochId>& cursors) {
  {
    Lock lock(cursors_mutex_);
    cursors_ = cursors;
    cursors_known_ = true;
  }
  compact();
}

void Pins::compact() {
  std::vector<EpochId> cursors;
  {
    Lock lock(cursors_mutex_);
    if (!cursors_known_) return;
    cursors = cursors_;
  }
  std::vector<EpochId> boundaries = cursors;
  for (EpochId end : ends()) boundaries.push_back(end);
  layers_.compact(cursors, boundaries);
}

uint64_t Pins::log_bytes() const {
  uint64_t n = 0;
  const auto pins = list();  // must outlive the loop, here and below
  for (const auto& pin : *pins) n += pin->given_up() ? 0 : pin->log_bytes();
  return n;
}

bool Pins::give_up_largest(uint64_t least) {
  std::shared_ptr<Pin> largest;
  const auto pins = list();
  for (const auto& pin : *pins) {
    if (pin->given_up() || pin->log_bytes() <= least) continue;
    if (!largest || pin->log_bytes() > largest->log_bytes()) largest = pin;
  }
  if (!largest) return false;
  largest->log_->give_up();
  return true;
}

// A pin's end is where the cursor will stand once the epoch is acknowledged.
std::vector<EpochId> Pins::ends() const {
  std::vector<EpochId> out;
  const auto pins = list();
  for (const auto& pin : *pins) out.push_back(pin->sealed());
  return out;
}

// ---- one pin ----

Pins::Pin::Pin(DirtyLayers::Changes changes, EpochId sealed,
               std::unique_ptr<journal::PreImageWriter> log, int backing_dir,
               std::atomic<int>& descriptors_left)
    : changes_(std::move(changes)),
      sealed_(sealed),
      log_(std::move(log)),
      backing_dir_(backing_dir),
      descriptors_left_(descriptors_left) {}

Pins::Pin::~Pin() {
  for (Shard& shard : shards_) {
    for (auto& [id, file] : shard.files) descriptors_left_ += file->fd ? 1 : 0;
  }
}

void Pins::Pin::save(const Touched& touched) {
  if (log_->given_up() || !is_dirty(touched.id)) return;
  const uint64_t needed = needed_from(touched.id);
  if (needed == ByteRange::kEndOfFile) return;
  const ByteRange due{std::max(touched.data.begin, needed), touched.data.end};
  File& f = file(touched.id);
  // Held until all is published: until then, no other mutation may overwrite the same bytes.
  Lock lock(f.mutex);
  auto saved = save_attributes(touched, f);
  if (saved && f.regular) saved = save_data(touched, f, due);
  if (saved && f.regular && touched.vanishing) saved = keep_readable(touched, f);
  if (!saved) log_->give_up();
}

void Pins::Pin::passed(const FileId& id, uint64_t offset) {
  Lock lock(passed_mutex_);
  if (id < passed_ || (id == passed_ && offset <= passed_offset_)) return;
  passed_ = id;
  passed_offset_ = offset;
}

uint64_t Pins::Pin::needed_from(const FileId& id) const {
  Lock lock(passed_mutex_);
  if (id == passed_) return passed_offset_;
  return id < passed_ ? ByteRange::kEndOfFile : 0;
}

bool Pins::Pin::is_dirty(const FileId& id) const {
  return changes_.unknown || std::any_of(changes_.layers.begin(), changes_.layers.end(),
                                         [&](const auto& layer) { return layer->contains(id); });
}

// The part of the range that is dirty in the pinned epochs.
journal::ByteRanges Pins::Pin::dirty_within(const FileId& id, ByteRange range) const {
  journal::ByteRanges out;
  if (changes_.unknown) out.add(range);
  for (const auto& layer : changes_.layers) layer->add_dirty(id, range, out);
  return out;
}

Pins::Pin::File& Pins::Pin::file(const FileId& id) {
  Shard& shard = shards_[DirtyLayers::shard_of(id)];
  Lock lock(shard.mutex);
  auto& entry = shard.files[id];
  if (!entry) entry = std::make_unique<File>();
  return *entry;
}

Result<void> Pins::Pin::save_attributes(const Touched& touched, File& f) {
  if (f.attributes_saved) return {};
  UniqueFd opened;
  int fd = touched.fd;
  if (fd < 0) {
    fd = open_handle(backing_dir_, touched.handle, O_PATH);
    if (fd < 0) return fail("open file to save its attributes", -fd);
    opened.reset(fd);
  }
  struct stat st;
  if (::fstat(fd, &st) != 0) return fail_errno("stat file to save its attributes");
  EPOCHFS_TRY(std::string attributes, journal::capture_attributes(fd));
  log_->publish_attributes(touched.id, attributes);
  f.regular = S_ISREG(st.st_mode);
  f.size = uint64_t(st.st_size);
  f.attributes_saved = true;
  return {};
}

// The file's size may differ from that at the seal. But bytes that are dirty, below the size at the
// seal, and not saved yet have not changed since.
Result<void> Pins::Pin::save_data(const Touched& touched, File& f, ByteRange range) {
  range.end = std::min(range.end, f.size);
  if (range.empty()) return {};
  journal::ByteRanges due = dirty_within(touched.id, range);
  if (f.saved.touches(range)) due.subtract(f.saved.within(range));
  if (due.empty()) return {};
  EPOCHFS_DO(open_for_reading(touched, f));
  uint64_t budget = kMaxSavedByOneMutation;
  Result<void> saved;
  due.for_each([&, fd = f.fd.get()](ByteRange part) {
    if (saved) saved = save_range(touched, fd, part, budget);
  });
  if (!saved) return saved;
  f.saved.add(due);
  close_if_too_many(f);
  return {};
}

// Sharing blocks first writes back what is dirty of them. It has to be worth that, and must not
// take longer than a copy may.
// An overwrite of shared blocks takes new ones: an application could find the disk full, or its
// quota used up, where it had room before. So only bytes that are removed are shared.
bool Pins::Pin::share(const Touched& touched, int fd, ByteRange range) {
  if (!touched.frees && !touched.vanishing) return false;
  if (range.length() < kWorthSharing || !log_->can_clone()) return false;
  const uint64_t dirty = dirty_bytes(fd, range);
  if (dirty > (range.length() < kWorthWritingBack ? 0 : kMaxSavedByOneMutation)) return false;
  return log_->publish_clone(touched.id, fd, range);
}

Result<void> Pins::Pin::save_range(const Touched& touched, int fd, ByteRange range,
                                   uint64_t& budget) {
  const FileId& id = touched.id;
  while (!range.empty()) {
    const off_t data = ::lseek(fd, off_t(range.begin), SEEK_DATA);
    if (data < 0 && errno != ENXIO) return fail_errno("seek data to save");
    const uint64_t begin = data < 0 ? range.end : std::min(uint64_t(data), range.end);
    log_->publish_hole(id, {range.begin, begin});
    range.begin = begin;
    if (range.empty()) break;
    const off_t hole = ::lseek(fd, off_t(begin), SEEK_HOLE);
    if (hole < 0) return fail_errno("seek hole to save");
    const uint64_t end = std::min(uint64_t(hole), range.end);
    const ByteRange blocks{(begin + journal::kCloneAlignment - 1) / journal::kCloneAlignment *
                               journal::kCloneAlignment,
                           end / journal::kCloneAlignment * journal::kCloneAlignment};
    if (blocks.begin < blocks.end && share(touched, fd, blocks)) {
      EPOCHFS_DO(copy_range(id, fd, {begin, blocks.begin}, budget));
      EPOCHFS_DO(copy_range(id, fd, {blocks.end, end}, budget));
    } else {
      EPOCHFS_DO(copy_range(id, fd, {begin, end}, budget));
    }
    range.begin = end;
  }
  return {};
}

Result<void> Pins::Pin::copy_range(const FileId& id, int fd, ByteRange range, uint64_t& budget) {
  if (range.empty()) return {};
  auto buffer = std::make_unique_for_overwrite<char[]>(
      size_t(std::min<uint64_t>(range.length(), kCopyBytes)));
  while (!range.empty()) {
    const size_t size = size_t(std::min<uint64_t>(range.length(), kCopyBytes));
    if (size > budget) return fail("save pre-image: too large for one mutation", EFBIG);
    budget -= size;
    EPOCHFS_TRY(size_t got, pread_full(fd, buffer.get(), size, range.begin, "data to save"));
    if (got != size) return fail("save pre-image: the file is shorter than its records say");
    log_->publish_data(id, range.begin, {buffer.get(), size});
    range.begin += size;
  }
  return {};
}

// The file's last name goes. An open descriptor keeps its handle usable.
Result<void> Pins::Pin::keep_readable(const Touched& touched, File& f) {
  const ByteRange all{0, f.size};
  if (dirty_within(touched.id, all).empty()) return {};  // its bytes will not be read
  EPOCHFS_DO(open_for_reading(touched, f));
  close_if_too_many(f);
  return f.fd ? Result<void>() : save_data(touched, f, all);
}

Result<void> Pins::Pin::open_for_reading(const Touched& touched, File& f) {
  if (f.fd) return {};
  int fd = touched.fd >= 0 ? ::open(proc_path(touched.fd).c_str(), kReadFlags)
                           : open_handle(backing_dir_, touched.handle, kReadFlags);
  if (fd < 0) return fail("open file to save its data", touched.fd >= 0 ? errno : -fd);
  f.fd.reset(fd);
  --descriptors_left_;
  return {};
}

void Pins::Pin::close_if_too_many(File& f) {
  if (descriptors_left_ >= 0) return;
  f.fd.reset();
  ++descriptors_left_;
}

}  // namespace epochfs::fs
