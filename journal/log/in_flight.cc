#include "journal/log/in_flight.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <optional>

#include "journal/base/regular_file.h"
#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {
namespace {

// The first page.
struct InFlightLayout {
  char magic[8];
  uint32_t version;
  uint32_t clean;
  char boot_id[36];
  uint32_t records_lost;
};

struct SlotHeader {
  uint32_t filled;  // written last when filling, first when clearing
  uint32_t bytes;   // of the encoded records that follow
};

// The kernel's random id of this boot.
Result<std::string> boot_id() {
  UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno("open /proc/sys/kernel/random/boot_id");
  char text[40] = {};
  EPOCHFS_TRY(size_t size, pread_full(fd.get(), text, 36, 0, "boot id"));
  if (size != 36) return fail("read boot id", EIO);
  return std::string(text, size);
}

Result<void> check_layout(const InFlightLayout& h) {
  if (!has_magic(h.magic, kInFlightMagic)) {
    return fail("read in-flight slots: not such a file", 0, ExitStatus::kCorrupt);
  }
  if (h.version == 0) {
    return fail("read in-flight slots: no format version", 0, ExitStatus::kCorrupt);
  }
  if (h.version > kInFlightFormatVersion) {
    return fail("read in-flight slots: newer format version; use a newer epochfs");
  }
  return {};
}

// The intents in `bytes` of a slot. nullopt: fill() did not write that. Only a mutation can be an
// intent: recovery would write a seal among them into the log.
std::optional<std::vector<Record>> read_intents(std::span<const std::byte> slot, uint32_t bytes) {
  std::vector<Record> out;
  if (bytes == 0 || bytes > slot.size()) return std::nullopt;
  for (auto rest = slot.first(bytes); !rest.empty();) {
    const Decoded d = decode(rest, Lsn{0});
    const bool mutation = d.record.type != RecordType::kPadding &&
                          d.record.type != RecordType::kSeal && d.record.type != RecordType::kGap;
    if (d.error != DecodeError::kNone || !mutation || out.size() == kMaxIntents) {
      return std::nullopt;
    }
    out.push_back(d.record);
    rest = rest.subspan(d.size);
  }
  return out;
}

SlotHeader* slot_header(std::byte* base) { return reinterpret_cast<SlotHeader*>(base); }

}  // namespace

struct InFlight::Header : InFlightLayout {};

InFlight::Header* InFlight::header() const { return reinterpret_cast<Header*>(map_); }

Result<std::unique_ptr<InFlight>> InFlight::open(Storage& storage, int volume_dir, Found& found) {
  std::unique_ptr<InFlight> self(new InFlight);
  self->storage_ = &storage;
  self->fd_ = ::openat(volume_dir, kInFlightFile, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (self->fd_ < 0) return fail_errno("open in-flight slots");
  struct stat st;
  if (::fstat(self->fd_, &st) != 0) return fail_errno("stat in-flight slots");
  EPOCHFS_DO(storage.allocate("in-flight", self->fd_, kInFlightFileBytes, "in-flight slots"));
  void* map = ::mmap(nullptr, kInFlightFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd_, 0);
  if (map == MAP_FAILED) return fail_errno("map in-flight slots");
  self->map_ = static_cast<std::byte*>(map);
  for (size_t i = 0; i < kInFlightSlots; ++i) {
    self->slots_[i].base_ = self->map_ + in_flight_slot_offset(i);
  }
  Header* h = self->header();
  static constexpr char zero[8] = {};
  if (std::memcmp(h->magic, zero, sizeof zero) == 0) return self;  // just made
  EPOCHFS_DO(check_layout(*h));
  found.existed = true;
  // The size was durable before the magic was, so slots have been cut off since.
  found.damaged = uint64_t(st.st_size) < kInFlightFileBytes;
  found.records_lost = h->records_lost != 0;
  EPOCHFS_TRY(std::string boot, boot_id());
  found.same_boot = std::memcmp(h->boot_id, boot.data(), sizeof h->boot_id) == 0;

  for (auto& slot : self->slots_) {
    SlotHeader* head = slot_header(slot.base_);
    if (!head->filled) continue;
    ++found.filled;
    auto copy = std::make_unique<std::byte[]>(kInFlightSlotBytes);
    std::memcpy(copy.get(), slot.base_, kInFlightSlotBytes);
    const auto bytes = std::span(copy.get(), kInFlightSlotBytes).subspan(sizeof *head);
    if (auto intents = read_intents(bytes, head->bytes)) {
      found.intents.insert(found.intents.end(), intents->begin(), intents->end());
      found.storage.push_back(std::move(copy));
    } else {  // power loss tore the page
      found.damaged = true;
    }
  }
  // No mutation is under way when a mount ends by itself.
  found.clean = h->clean == 1 && found.filled == 0;
  return self;
}

InFlight::~InFlight() {
  if (map_) ::munmap(map_, kInFlightFileBytes);
  if (fd_ >= 0) ::close(fd_);
}

Result<void> InFlight::start(bool records_lost) {
  EPOCHFS_TRY(std::string boot, boot_id());
  for (auto& slot : slots_) slot.clear();
  Header* h = header();
  h->version = kInFlightFormatVersion;
  h->clean = 0;
  h->records_lost = records_lost;
  std::memcpy(h->boot_id, boot.data(), sizeof h->boot_id);
  set_magic(h->magic, kInFlightMagic);
  // Durable before the first mutation: after power loss "clean" must not be read.
  return storage_->sync_data("in-flight-start", fd_, "in-flight slots");
}

Result<void> InFlight::finish() {
  header()->clean = 1;
  return storage_->sync_data("in-flight-finish", fd_, "in-flight slots");
}

InFlight::Slot* InFlight::claim() {
  for (size_t i = 0; i < kInFlightSlots; ++i) {
    bool expected = false;
    if (taken_[i].compare_exchange_strong(expected, true)) return &slots_[i];
  }
  return nullptr;
}

void InFlight::release(Slot* slot) {
  slot->clear();
  taken_[size_t(slot - slots_.data())].store(false);
}

void InFlight::Slot::fill(std::span<const Record> intents) {
  EPOCHFS_CHECK(intents.size() <= kMaxIntents);
  SlotHeader* head = slot_header(base_);
  std::byte* at = base_ + sizeof *head;
  for (const Record& intent : intents) {
    size_t size = encoded_size(intent);
    EPOCHFS_CHECK(at + size <= base_ + kInFlightSlotBytes);
    encode(intent, {at, size});
    at += size;
  }
  head->bytes = static_cast<uint32_t>(at - base_ - sizeof *head);
  // kill -9 stops a process between two instructions, so only the order matters in which the
  // stores become visible.
  std::atomic_ref<uint32_t>(head->filled).store(1, std::memory_order_release);
}

void InFlight::Slot::clear() {
  std::atomic_ref<uint32_t>(slot_header(base_)->filled).store(0, std::memory_order_release);
}

std::optional<Record> InFlight::Slot::peek() const {
  SlotHeader* head = slot_header(base_);
  if (std::atomic_ref<uint32_t>(head->filled).load(std::memory_order_acquire) == 0) {
    return std::nullopt;
  }
  Decoded d = decode({base_ + sizeof *head, head->bytes}, Lsn{0});
  if (d.error != DecodeError::kNone) return std::nullopt;
  d.record.name = d.record.name2 = {};
  return d.record;
}

void InFlight::set_records_lost(bool lost) {
  std::atomic_ref<uint32_t>(header()->records_lost).store(lost, std::memory_order_release);
}

bool InFlight::records_lost() const {
  return std::atomic_ref<uint32_t>(header()->records_lost).load(std::memory_order_acquire) != 0;
}

Result<InFlightSeen> look_at_in_flight(int volume_dir) {
  InFlightSeen seen;
  auto file = open_regular(volume_dir, kInFlightFile);
  if (!file && file.error().code == ENOENT) return seen;
  EPOCHFS_TRY(UniqueFd fd, std::move(file));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat in-flight slots");
  seen.exists = true;
  seen.file_bytes = uint64_t(st.st_size);
  std::vector<std::byte> bytes(kInFlightFileBytes);
  EPOCHFS_TRY([[maybe_unused]] size_t size,
              pread_full(fd.get(), bytes.data(), bytes.size(), 0, "in-flight slots"));
  const InFlightLayout& h = *reinterpret_cast<const InFlightLayout*>(bytes.data());
  static constexpr char zero[8] = {};
  if (std::memcmp(h.magic, zero, sizeof zero) == 0) return seen;
  EPOCHFS_DO(check_layout(h));
  seen.started = true;
  seen.records_lost = h.records_lost != 0;
  EPOCHFS_TRY(std::string boot, boot_id());
  seen.same_boot = std::memcmp(h.boot_id, boot.data(), sizeof h.boot_id) == 0;
  for (size_t i = 0; i < kInFlightSlots; ++i) {
    const auto slot = std::span(bytes).subspan(in_flight_slot_offset(i), kInFlightSlotBytes);
    SlotHeader head;
    std::memcpy(&head, slot.data(), sizeof head);
    if (!head.filled) continue;
    seen.filled.push_back(i);
    if (!read_intents(slot.subspan(sizeof head), head.bytes)) seen.damaged.push_back(i);
  }
  seen.clean = h.clean == 1 && seen.filled.empty();
  return seen;
}

}  // namespace epochfs::journal
