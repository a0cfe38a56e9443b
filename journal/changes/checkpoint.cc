#include "journal/changes/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <cstdio>
#include <cstring>

#include "journal/base/format.h"
#include "journal/base/regular_file.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {
namespace {

constexpr size_t kBufferBytes = 1 << 20;
constexpr uint32_t kGap = 1;                                            // of the header
constexpr uint32_t kFresh = 1, kWhole = 2, kTouched = 4, kSubtree = 8;  // of a file
constexpr uint16_t kBeforeKnown = 1;                                    // of a name

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t flags;
  uint8_t lineage[16];
  uint64_t first, last;
  uint64_t seal, gap_lsn;
  uint64_t records;
  uint64_t files, names;        // how many
  uint64_t index_at, names_at;  // where the files' entries end, and where names begin
  uint64_t file_bytes;
  uint64_t body_checksum;  // of everything behind the header
  uint64_t checksum;       // of the header before it
};
static_assert(sizeof(Header) == kCheckpointHeaderBytes);

struct FileEntry {
  uint32_t bytes;  // of the whole entry
  uint32_t flags;
  uint64_t inode, birth_ns;
  uint64_t last_data;
  int64_t links;
  uint32_t ranges;
  int32_t handle_type;
  uint32_t handle_bytes;
  uint32_t zero;
};
static_assert(sizeof(FileEntry) == kCheckpointFileEntryBytes);

struct NameEntry {
  uint32_t bytes;  // of the whole entry
  uint16_t flags;
  uint16_t name_bytes;
  uint64_t parent_inode, parent_birth_ns;
  uint64_t before_inode, before_birth_ns;
  uint64_t after_inode, after_birth_ns;
};
static_assert(sizeof(NameEntry) == kCheckpointNameEntryBytes);

struct IndexEntry {
  uint64_t inode, birth_ns;
  uint64_t offset;  // of the file's entry, behind the header
};
static_assert(sizeof(IndexEntry) == 24);

constexpr size_t aligned(size_t n) { return (n + 7) & ~size_t{7}; }

uint64_t header_checksum(const Header& h) { return XXH3_64bits(&h, offsetof(Header, checksum)); }

template <typename T>
T load(std::span<const std::byte> from) {
  T out;
  std::memcpy(&out, from.data(), sizeof out);
  return out;
}

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

FileId id_of(const FileEntry& e) { return {e.inode, e.birth_ns}; }

// The entry at the beginning, if it is whole and every length in it is right.
std::optional<FileEntry> file_entry(std::span<const std::byte> in) {
  if (in.size() < sizeof(FileEntry)) return std::nullopt;
  const FileEntry e = load<FileEntry>(in);
  if (e.bytes > in.size() || e.handle_bytes > FileHandle::kMaxBytes ||
      e.ranges > kMaxRangesOfFile ||
      e.bytes != sizeof e + aligned(e.handle_bytes) + e.ranges * sizeof(ByteRange)) {
    return std::nullopt;
  }
  return e;
}

std::optional<NameEntry> name_entry(std::span<const std::byte> in) {
  if (in.size() < sizeof(NameEntry)) return std::nullopt;
  const NameEntry e = load<NameEntry>(in);
  if (e.bytes > in.size() || e.name_bytes == 0 || e.name_bytes > kMaxNameBytes ||
      e.bytes != sizeof e + aligned(e.name_bytes)) {
    return std::nullopt;
  }
  return e;
}

FileChange decode(const FileEntry& e, std::span<const std::byte> in) {
  FileChange out;
  out.fresh = e.flags & kFresh;
  out.whole = e.flags & kWhole;
  out.touched = e.flags & kTouched;
  out.subtree = e.flags & kSubtree;
  out.links = e.links;
  out.last_data = Lsn{e.last_data};
  FileHandle handle{.type = e.handle_type, .size = uint8_t(e.handle_bytes)};
  std::memcpy(handle.bytes.data(), in.data() + sizeof e, e.handle_bytes);
  out.handle = handle;
  const auto ranges = in.subspan(sizeof e + aligned(e.handle_bytes), e.ranges * sizeof(ByteRange));
  for (size_t at = 0; at < ranges.size(); at += sizeof(ByteRange)) {
    out.data.add(load<ByteRange>(ranges.subspan(at)));
  }
  return out;
}

}  // namespace

std::string checkpoint_name(EpochId first, EpochId last) {
  return fmt::format("{:016x}-{:016x}", value(first), value(last));
}

bool parse_checkpoint_name(const std::string& name, EpochId& first, EpochId& last) {
  uint64_t a = 0, b = 0;
  if (std::sscanf(name.c_str(), "%16lx-%16lx", &a, &b) != 2) return false;
  first = EpochId{a};
  last = EpochId{b};
  return checkpoint_name(first, last) == name && a > 0 && a <= b;
}

// ---- reading ----

Result<CheckpointPtr> Checkpoint::open(int dir, const std::string& name, const Uuid& lineage) {
  EPOCHFS_TRY(UniqueFd fd, open_regular(dir, name));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return fail_errno("stat checkpoint " + name);
  std::shared_ptr<Checkpoint> self(new Checkpoint);
  if (st.st_size > 0) {
    void* map = ::mmap(nullptr, size_t(st.st_size), PROT_READ, MAP_SHARED, fd.get(), 0);
    if (map == MAP_FAILED) return fail_errno("map checkpoint " + name);
    self->bytes_ = {static_cast<const std::byte*>(map), size_t(st.st_size)};
    self->mapped_ = true;
  }
  EPOCHFS_DO(self->take_in(name));
  if (self->info_.lineage != lineage) {
    return fail(fmt::format("read checkpoint {}: belongs to another volume", name), 0,
                ExitStatus::kCorrupt);
  }
  return self;
}

Result<CheckpointPtr> Checkpoint::parse(std::span<const std::byte> bytes, const std::string& name) {
  std::shared_ptr<Checkpoint> self(new Checkpoint);
  self->bytes_ = bytes;
  EPOCHFS_DO(self->take_in(name));
  return self;
}

Checkpoint::~Checkpoint() {
  if (mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<void> Checkpoint::take_in(const std::string& name) {
  auto damaged = [&](const char* why) {
    return fail(fmt::format("read checkpoint {}: {}", name, why), 0, ExitStatus::kCorrupt);
  };
  if (bytes_.size() < sizeof(Header)) return damaged("too short");
  const Header h = load<Header>(bytes_);
  if (!has_magic(h.magic, kCheckpointMagic)) return damaged("not a checkpoint");
  if (h.version == 0) return damaged("no format version");
  if (h.version > kStateFormatVersion) {
    return fail(fmt::format("read checkpoint {}: newer format version {}; use a newer epochfs",
                            name, h.version));
  }
  if (h.checksum != header_checksum(h)) return damaged("bad checksum of its header");
  if (h.file_bytes != bytes_.size()) return damaged("wrong length");
  if (h.index_at < sizeof h || h.index_at > h.names_at || h.names_at > h.file_bytes) {
    return damaged("its parts do not fit");
  }
  const auto body = bytes_.subspan(sizeof h);
  if (h.body_checksum != XXH3_64bits(body.data(), body.size())) return damaged("bad checksum");
  std::memcpy(info_.lineage.bytes.data(), h.lineage, sizeof h.lineage);
  info_.first = EpochId{h.first};
  info_.last = EpochId{h.last};
  info_.seal = Lsn{h.seal};
  info_.gap = h.flags & kGap;
  info_.gap_lsn = Lsn{h.gap_lsn};
  info_.records = h.records;
  info_.files = h.files;
  info_.names = h.names;
  if (value(info_.first) == 0 || info_.first > info_.last) {
    return damaged("its epochs are out of order");
  }
  if (checkpoint_name(info_.first, info_.last) != name) {
    return damaged("its epochs are not those of its name");
  }
  files_ = bytes_.subspan(sizeof h, h.index_at - sizeof h);
  index_ = bytes_.subspan(h.index_at, h.names_at - h.index_at);
  names_ = bytes_.subspan(h.names_at);
  return check_entries(name);
}

// Checks every entry once, so that later reads need no checks.
Result<void> Checkpoint::check_entries(const std::string& name) const {
  auto damaged = [&](const char* what) {
    return fail(fmt::format("read checkpoint {}: a damaged entry of a {}", name, what), 0,
                ExitStatus::kCorrupt);
  };
  if (index_.size() % sizeof(IndexEntry) != 0) return damaged("index");
  uint64_t files = 0, names = 0;
  FileId before;
  for (auto left = files_; !left.empty(); ++files) {
    auto e = file_entry(left);
    if (!e || (files > 0 && id_of(*e) <= before)) return damaged("file");
    before = id_of(*e);
    if (files % kFilesPerIndexEntry == 0) {
      const size_t at = files / kFilesPerIndexEntry * sizeof(IndexEntry);
      const uint64_t offset = uint64_t(left.data() - files_.data());
      if (at >= index_.size()) return damaged("index");
      const auto i = load<IndexEntry>(index_.subspan(at));
      if (FileId{i.inode, i.birth_ns} != before || i.offset != offset) return damaged("index");
    }
    left = left.subspan(e->bytes);
  }
  std::optional<NameKey> key_before;
  Names all(*this);
  for (auto left = names_; !left.empty(); ++names) {
    auto e = name_entry(left);
    if (!e) return damaged("name");
    NameKey key;
    NameChange change;
    all.next(key, change);
    if (key_before && key <= *key_before) return damaged("name");
    key_before = std::move(key);
    left = left.subspan(e->bytes);
  }
  if (files != info_.files || names != info_.names ||
      index_.size() / sizeof(IndexEntry) !=
          (files + kFilesPerIndexEntry - 1) / kFilesPerIndexEntry) {
    return damaged("count");
  }
  return {};
}

std::optional<FileChange> Checkpoint::find(const FileId& id) const {
  size_t low = 0, high = index_.size() / sizeof(IndexEntry);
  auto entry = [&](size_t i) { return load<IndexEntry>(index_.subspan(i * sizeof(IndexEntry))); };
  while (low < high) {  // finds the first index entry after the id
    const size_t middle = (low + high) / 2;
    const IndexEntry e = entry(middle);
    (FileId{e.inode, e.birth_ns} <= id ? low : high) =
        FileId{e.inode, e.birth_ns} <= id ? middle + 1 : middle;
  }
  if (low == 0) return std::nullopt;
  auto left = files_.subspan(entry(low - 1).offset);
  for (size_t n = 0; n < kFilesPerIndexEntry && !left.empty(); ++n) {
    const FileEntry e = load<FileEntry>(left);
    if (id_of(e) == id) return decode(e, left);
    if (id_of(e) > id) break;
    left = left.subspan(e.bytes);
  }
  return std::nullopt;
}

Checkpoint::Files::Files(const Checkpoint& c) : left_(c.files_) {}

bool Checkpoint::Files::next(FileId& id, FileChange& change) {
  if (left_.empty()) return false;
  const FileEntry e = load<FileEntry>(left_);
  id = id_of(e);
  change = decode(e, left_);
  left_ = left_.subspan(e.bytes);
  return true;
}

Checkpoint::Names::Names(const Checkpoint& c) : left_(c.names_) {}

bool Checkpoint::Names::next(NameKey& key, NameChange& change) {
  if (left_.empty()) return false;
  const NameEntry e = load<NameEntry>(left_);
  key.parent = {e.parent_inode, e.parent_birth_ns};
  key.name.assign(reinterpret_cast<const char*>(left_.data() + sizeof e), e.name_bytes);
  change.before_known = e.flags & kBeforeKnown;
  change.before = {e.before_inode, e.before_birth_ns};
  change.after = {e.after_inode, e.after_birth_ns};
  left_ = left_.subspan(e.bytes);
  return true;
}

// ---- writing ----

CheckpointWriter::CheckpointWriter(Storage& storage, int dir, const CheckpointInfo& info)
    : storage_(storage), dir_(dir), info_(info), name_(checkpoint_name(info.first, info.last)) {
  info_.files = info_.names = 0;
  checksum_ = XXH3_createState();
  EPOCHFS_CHECK(checksum_ != nullptr);
  XXH3_64bits_reset(checksum_);
}

CheckpointWriter::~CheckpointWriter() {
  XXH3_freeState(checksum_);
  if (fd_ && !finished_) ::unlinkat(dir_, (name_ + ".new").c_str(), 0);
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::create(Storage& storage, int dir,
                                                                   const CheckpointInfo& info) {
  EPOCHFS_CHECK(info.first <= info.last);
  std::unique_ptr<CheckpointWriter> self(new CheckpointWriter(storage, dir, info));
  self->fd_.reset(
      ::openat(dir, (self->name_ + ".new").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!self->fd_) return fail_errno("create checkpoint " + self->name_);
  self->position_ = sizeof(Header);
  return self;
}

void CheckpointWriter::write(std::span<const std::byte> bytes) {
  XXH3_64bits_update(checksum_, bytes.data(), bytes.size());
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  position_ += bytes.size();
  if (buffer_.size() >= kBufferBytes) flush();
}

void CheckpointWriter::flush() {
  if (written_) {
    written_ = pwrite_full(fd_.get(), buffer_.data(), buffer_.size(), position_ - buffer_.size(),
                           "checkpoint " + name_);
  }
  buffer_.clear();
}

void CheckpointWriter::add(const FileId& id, const FileChange& change) {
  EPOCHFS_CHECK(names_at_ == 0 && (info_.files == 0 || last_file_ < id));
  last_file_ = id;
  if (info_.files++ % kFilesPerIndexEntry == 0) {
    const IndexEntry index{id.inode, id.birth_ns, position_ - sizeof(Header)};
    const auto bytes = bytes_of(index);
    index_.insert(index_.end(), bytes.begin(), bytes.end());
  }
  ByteRanges data = change.data;
  data.limit_to(kMaxRangesOfFile);
  FileEntry e{};
  e.flags = (change.fresh ? kFresh : 0) | (change.whole ? kWhole : 0) |
            (change.touched ? kTouched : 0) | (change.subtree ? kSubtree : 0);
  e.inode = id.inode;
  e.birth_ns = id.birth_ns;
  e.last_data = value(change.last_data);
  e.links = change.links;
  e.ranges = uint32_t(data.count());
  const FileHandle handle = change.handle;
  e.handle_type = handle.type;
  e.handle_bytes = handle.size;
  e.bytes = uint32_t(sizeof e + aligned(e.handle_bytes) + e.ranges * sizeof(ByteRange));
  entry_.assign(sizeof e + aligned(e.handle_bytes), std::byte{0});
  std::memcpy(entry_.data(), &e, sizeof e);
  std::memcpy(entry_.data() + sizeof e, handle.bytes.data(), e.handle_bytes);
  data.for_each([&](ByteRange range) {
    const auto bytes = bytes_of(range);
    entry_.insert(entry_.end(), bytes.begin(), bytes.end());
  });
  write(entry_);
}

void CheckpointWriter::end_files() {
  index_at_ = position_;
  write(index_);
  names_at_ = position_;
}

void CheckpointWriter::add(const NameKey& key, const NameChange& change) {
  if (names_at_ == 0) end_files();
  EPOCHFS_CHECK(info_.names == 0 || last_name_ < key);
  EPOCHFS_CHECK(!key.name.empty() && key.name.size() <= kMaxNameBytes);
  last_name_ = key;
  ++info_.names;
  NameEntry e{};
  e.bytes = uint32_t(sizeof e + aligned(key.name.size()));
  e.flags = change.before_known ? kBeforeKnown : 0;
  e.name_bytes = uint16_t(key.name.size());
  e.parent_inode = key.parent.inode;
  e.parent_birth_ns = key.parent.birth_ns;
  e.before_inode = change.before.inode;
  e.before_birth_ns = change.before.birth_ns;
  e.after_inode = change.after.inode;
  e.after_birth_ns = change.after.birth_ns;
  entry_.assign(e.bytes, std::byte{0});
  std::memcpy(entry_.data(), &e, sizeof e);
  std::memcpy(entry_.data() + sizeof e, key.name.data(), key.name.size());
  write(entry_);
}

Result<void> CheckpointWriter::finish() {
  if (names_at_ == 0) end_files();
  flush();
  EPOCHFS_DO(written_);
  Header h{};
  set_magic(h.magic, kCheckpointMagic);
  h.version = kStateFormatVersion;
  h.flags = info_.gap ? kGap : 0;
  std::memcpy(h.lineage, info_.lineage.bytes.data(), sizeof h.lineage);
  h.first = value(info_.first);
  h.last = value(info_.last);
  h.seal = value(info_.seal);
  h.gap_lsn = value(info_.gap_lsn);
  h.records = info_.records;
  h.files = info_.files;
  h.names = info_.names;
  h.index_at = index_at_;
  h.names_at = names_at_;
  h.file_bytes = position_;
  h.body_checksum = XXH3_64bits_digest(checksum_);
  h.checksum = header_checksum(h);
  EPOCHFS_DO(pwrite_full(fd_.get(), &h, sizeof h, 0, "checkpoint " + name_));
  EPOCHFS_DO(storage_.publish_file("checkpoint", dir_, fd_.get(), name_ + ".new", name_));
  finished_ = true;
  return {};
}

}  // namespace epochfs::journal
