// JournalTest: the fixture of a volume with small segments, whose journal is opened, killed
// and read again.
#pragma once

#include <fcntl.h>

#include <xxhash.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>

#include "journal/log/journal.h"
#include "journal/log/reader.h"
#include "journal/volume/epochs.h"
#include "tests/support/expect.h"
#include "tests/support/files.h"
#include "tests/support/records.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/volumes.h"

namespace epochfs::testing {

// The operating system's storage, of which a test can fail single calls. It syncs
// nothing: no test stops the machine, and the disk need not be waited for.
class FailingStorage : public Storage {
 public:
  std::atomic<bool> full{false};  // no room for segments
  std::atomic<int> refused{0};    // so often
  std::string failing_label;      // set while nobody calls
  // Told of every call. Whatever thread.
  std::atomic<const std::function<void(std::string_view)>*> at_call{nullptr};
  std::atomic<int> calls_until_failure{-1};  // counts all labelled calls; -1: never

  Result<void> allocate(const char* label, int fd, uint64_t size, std::string_view what) override {
    EPOCHFS_DO(fate(label));
    if (full && std::string_view(label) == "segment") {
      ++refused;
      return fail("allocate", ENOSPC);
    }
    return Storage::allocate(label, fd, size, what);
  }
  Result<void> sync_data(const char* label, int fd, std::string_view what) override {
    EPOCHFS_DO(fate(label));
    return {};
  }
  Result<void> sync_directory(const char* label, int dir, std::string_view what) override {
    EPOCHFS_DO(fate(label));
    return {};
  }
  Result<void> sync_filesystem(const char* label, int fd, std::string_view what) override {
    EPOCHFS_DO(fate(label));
    return {};
  }
  Result<void> remove_file(const char* label, int dir, const std::string& name) override {
    EPOCHFS_DO(fate(label));
    if (::unlinkat(dir, name.c_str(), 0) != 0) return fail_errno("remove " + name);
    return {};
  }

 private:
  Result<void> fate(const char* label) {
    if (const auto* f = at_call.load()) (*f)(label);
    if (failing_label == label) return fail(std::string("fail at ") + label, EIO);
    if (calls_until_failure >= 0 && calls_until_failure-- == 0) {
      return fail(std::string("fail at ") + label, EIO);
    }
    return {};
  }
};

// A record of the journal, with what its views point into.
struct Kept {
  journal::Record record;
  std::string name, name2;

  explicit Kept(const journal::Record& r) : record(r), name(r.name), name2(r.name2) {
    record.name = name;
    record.name2 = name2;
  }
  Kept(const Kept&) = delete;
};

class JournalTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kSegment = 64 << 10;
  static constexpr journal::Retention kKeepFour{.bytes = 4 * kSegment};

  static journal::Record write_of(uint64_t inode, uint64_t begin = 0, uint64_t end = 1) {
    journal::Record r;
    r.type = journal::RecordType::kWrite;
    r.file = {inode, 1};
    r.range = {begin, end};
    return r;
  }
  static journal::Record create_of(uint64_t inode, std::string_view name) {
    journal::Record r;
    r.type = journal::RecordType::kCreate;
    r.file = {inode, 1};
    r.parent = {2, 1};
    r.name = name;
    return r;
  }
  static journal::NamedFile nothing(const FileHandle&, std::string_view) { return {}; }

  Result<void> try_open() {
    report_ = {};
    suspects_.clear();
    auto marker = [this](const FileId& file, const FileHandle&) -> Result<bool> {
      suspects_.push_back(file.inode);
      return marks_;
    };
    EPOCHFS_TRY(journal_, journal::Journal::open(storage_, volume_, lookup_, report_, marker));
    return {};
  }
  journal::Journal& open() {
    must(try_open());
    return *journal_;
  }
  // The process ends without a word. What it had mapped stays in the files.
  void kill() { journal_.reset(); }
  void stop_machine() {
    kill();
    poke(volume_.path() + "/in-flight", 16, "another boot");
  }
  journal::Journal& reopen() {
    kill();
    return open();
  }
  void close() {
    must(journal_->close());
    journal_.reset();
  }
  journal::SealedEpoch seal_and_publish() {
    journal::SealedEpoch sealed = journal_->seal();
    must(journal_->publish(sealed));
    return sealed;
  }
  void fill_slot(const journal::Record& intent) {
    journal_->in_flight().claim()->fill({&intent, 1});
  }

  // All records but padding, in the order of the journal; damage_ gets the holes.
  std::deque<Kept> read(Lsn from = Lsn{0}) {
    std::deque<Kept> out;
    damage_.clear();
    Lsn last{};
    must(journal::JournalReader(volume_).read_all(
        from,
        [&](const journal::Record& r) {
          EXPECT_GT(r.lsn, last) << "records come in the order of their LSN";
          last = r.lsn;
          if (r.type != journal::RecordType::kPadding) out.emplace_back(r);
          return true;
        },
        &damage_));
    return out;
  }
  std::vector<uint64_t> inodes(const std::deque<Kept>& records) {
    std::vector<uint64_t> out;
    for (const Kept& k : records) {
      if (k.record.file) out.push_back(k.record.file.inode);
    }
    return out;
  }
  static size_t count(const std::deque<Kept>& records, journal::RecordType type) {
    size_t n = 0;
    for (const Kept& k : records) n += k.record.type == type;
    return n;
  }
  static std::vector<journal::GapReason> gaps(const std::deque<Kept>& records) {
    std::vector<journal::GapReason> out;
    for (const Kept& k : records) {
      if (k.record.type == journal::RecordType::kGap)
        out.push_back(journal::GapReason(k.record.mode));
    }
    return out;
  }
  std::string segment_file(uint64_t index) const {
    return volume_.path() + "/segments/" + journal::segment_name(index);
  }
  // Overwrites bytes of the log at a position.
  void poke_log(Lsn at, std::string_view bytes) {
    poke(segment_file(value(at) / kSegment), value(at) % kSegment, bytes);
  }
  // Puts zeros in place of one record, as if it had not been written.
  void erase(Lsn at) {
    uint32_t length = 0;
    const std::string file = read_whole_file(segment_file(value(at) / kSegment));
    std::memcpy(&length, file.data() + value(at) % kSegment, sizeof length);
    poke_log(at, std::string(length, '\0'));
  }
  // Gives every record another time, as if the clock had said so.
  void rewrite_times(const std::function<uint64_t(const journal::Record&)>& time) {
    for (const auto& [index, name] : must(journal::list_segments(volume_.dir()))) {
      std::string bytes = read_whole_file(segment_file(index));
      auto span = std::as_writable_bytes(std::span(bytes));
      for (size_t at = journal::kSegmentHeaderBytes; at < span.size();) {
        const journal::Decoded d = journal::decode(span.subspan(at), Lsn{index * kSegment + at});
        if (d.error != journal::DecodeError::kNone) break;
        const uint64_t now = time(d.record);
        std::memcpy(span.data() + at + 24, &now, sizeof now);
        reseal(span.subspan(at, d.size));
        at += d.size;
      }
      write_file(segment_file(index), bytes);
    }
  }
  // Makes the volume one whose epochs up to this one were sealed and released, the last
  // at the beginning of the segment.
  void begin_at(uint64_t segment, EpochId epoch) {
    journal::Record r;
    r.type = journal::RecordType::kSeal;
    r.lsn = Lsn{segment * kSegment + journal::kSegmentHeaderBytes};
    r.epoch = epoch;
    alignas(8) std::array<std::byte, journal::kSegmentHeaderBytes> header;
    journal::write_segment_header(header, volume_.info().lineage, segment, kSegment);
    std::string bytes(reinterpret_cast<const char*>(header.data()), header.size());
    auto record = encoded(r);
    bytes.append(reinterpret_cast<const char*>(record.data()), record.size());
    write_file(segment_file(segment), bytes);
    put_entry({epoch, 1, Lsn{0}, r.lsn, 0});
  }
  // An entry of the manifest, its checksum being right; those before it may be a hole.
  void put_entry(const journal::SealedEpoch& e) {
    uint64_t entry[8] = {value(e.epoch), e.barrier_ns, value(e.begin), value(e.seal), e.records};
    entry[7] = XXH3_64bits(entry, 56);
    UniqueFd fd(::open((volume_.path() + "/epochs").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    must(pwrite_full(fd.get(), entry, sizeof entry, (value(e.epoch) - 1) * sizeof entry, "entry"));
  }
  size_t segments() { return must(journal::list_segments(volume_.dir())).size(); }

  TemporaryDirectory dir_;
  journal::Volume volume_ = make_volume(dir_, kSegment);
  FailingStorage storage_;
  journal::NameLookup lookup_ = nothing;
  journal::RecoveryReport report_;
  std::vector<uint64_t> suspects_;  // inodes that recovery gave to the marker,
  Result<bool> marks_ = true;       // and what that said
  std::unique_ptr<journal::Journal> journal_;
  std::vector<journal::Damage> damage_;
};

}  // namespace epochfs::testing
