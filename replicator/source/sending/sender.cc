#include "replicator/source/sending/sender.h"

namespace epochfs::replicator {
namespace {

constexpr size_t kBatchBytes = 512 << 10;  // in attributes; xattrs can be large

capnp::Data::Reader data_of(std::string_view s) {
  return {reinterpret_cast<const capnp::byte*>(s.data()), s.size()};
}

void set_id(rpc::FileId::Builder out, const FileId& id) {
  journal::set_file_id(out, id.inode, id.birth_ns);
}

}  // namespace

Sender::Sender(EpochReader& reader, rpc::Transfer::Client transfer, Interruptible& loop,
               std::function<void(const SenderCounters&)> on_progress)
    : reader_(reader),
      transfer_(kj::mv(transfer)),
      loop_(loop),
      on_progress_(std::move(on_progress)),
      window_(loop) {}

Result<std::unique_ptr<Sender>> Sender::make(
    EpochReader& reader, rpc::Transfer::Client transfer, Interruptible& loop,
    std::function<void(const SenderCounters&)> on_progress) {
  std::unique_ptr<Sender> self(new Sender(reader, transfer, loop, std::move(on_progress)));
  auto on_sent = [sender = self.get()](uint64_t bytes) {
    sender->sent_.work_done += bytes;
    sender->on_progress_(sender->counters());
  };
  EPOCHFS_TRY(self->pump_, BlockPump::make(reader, kj::mv(transfer), self->window_, loop, on_sent));
  return self;
}

uint64_t Sender::foreseen_work_of(const journal::FileChange& change) {
  uint64_t bytes = 0;
  change.data.for_each([&](ByteRange range) {
    if (range.end != ByteRange::kEndOfFile) bytes += range.length();
  });
  return work_of(bytes);
}

Result<bool> Sender::file(const FileId& id, const journal::FileChange& change, uint64_t version) {
  Pending node;
  node.attributes = std::make_unique<capnp::MallocMessageBuilder>(128);
  auto attributes = node.attributes->initRoot<rpc::Attributes>();
  EPOCHFS_TRY(node.file, reader_.open(id, change.handle, attributes));
  if (!node.file) return false;
  node.fresh = change.fresh;
  node.version = version;
  if (journal::is_regular(node.file->mode)) {
    node.whole = change.fresh || change.whole;
    ByteRange all{0, node.file->size};
    node.whole ? node.ranges.add(all) : node.ranges.add(change.data.within(all));
  }
  filling_bytes_ += attributes.totalSize().wordCount * sizeof(capnp::word);
  ++sent_.files;
  const uint64_t foreseen = foreseen_work_of(change), work = work_of(node.ranges.bytes());
  sent_.work_unforeseen += work > foreseen ? work - foreseen : 0;
  filling_.nodes.push_back(std::move(node));
  if (filling_.nodes.size() >= kNodesInBatch || filling_bytes_ >= kBatchBytes) {
    send_nodes();
    if (in_flight_.size() > kBatchesInFlight) EPOCHFS_DO(settle_oldest());
  }
  return true;
}

void Sender::send_nodes() {
  if (filling_.nodes.empty()) return;
  auto request = transfer_.nodesRequest();
  auto list = request.initNodes(unsigned(filling_.nodes.size()));
  for (size_t i = 0; i < filling_.nodes.size(); ++i) {
    Pending& node = filling_.nodes[i];
    auto out = list[unsigned(i)];
    set_id(out.initId(), node.file->id);
    out.setAttributes(node.attributes->getRoot<rpc::Attributes>().asReader());
    if (node.whole) {
      out.getContent().setWhole();
    } else if (!node.ranges.empty()) {
      out.getContent().setRanges();
    } else {
      out.getContent().setNone();
    }
    out.setVersion(node.version);
    out.setFresh(node.fresh);
    node.attributes = nullptr;
  }
  count(request.totalSize().wordCount);
  filling_.reply = request.send();
  in_flight_.push_back(std::move(filling_));
  filling_ = Batch{};
  filling_bytes_ = 0;
}

// Waits for the answer to the oldest batch, and queues the bytes that it asks for.
Result<void> Sender::settle_oldest() {
  Batch batch = std::move(in_flight_.front());
  in_flight_.pop_front();
  auto reply = loop_.wait(kj::mv(KJ_ASSERT_NONNULL(batch.reply)));
  std::vector<uint64_t> resume_at(batch.nodes.size(), 0);
  for (auto need : reply.getNeeds()) {
    if (need.getIndex() < resume_at.size()) resume_at[need.getIndex()] = need.getResumeAt();
  }
  for (size_t i = 0; i < batch.nodes.size(); ++i) {
    Pending& node = batch.nodes[i];
    sent_.compared += node.whole;
    sent_.differed += node.whole && resume_at[i] != rpc::NOTHING_NEEDED;
    const journal::ByteRanges needed = node.ranges.within({resume_at[i], ByteRange::kEndOfFile});
    // The rest of its work is counted when its bytes are sent.
    sent_.work_done += work_of(node.ranges.bytes() - needed.bytes());
    EPOCHFS_DO(queue_data(node.file, needed));
  }
  on_progress_(counters());
  return {};
}

Result<void> Sender::queue_data(const SourceFilePtr& file, const journal::ByteRanges& ranges) {
  Result<void> outcome;
  ranges.for_each([&](ByteRange range) {
    if (outcome) outcome = pump_->add(file, range);
  });
  return outcome;
}

void Sender::name(const FileId& parent, std::string_view name, const FileId& child) {
  names_.emplace_back(parent, std::string(name), child);
  if (names_.size() >= kNamesInBatch) send_names();
}

void Sender::send_names() {
  if (names_.empty()) return;
  auto request = transfer_.namesRequest();
  auto list = request.initNames(unsigned(names_.size()));
  for (unsigned i = 0; i < names_.size(); ++i) {
    const auto& [parent, name, child] = names_[i];
    set_id(list[i].initParent(), parent);
    list[i].setName(data_of(name));
    set_id(list[i].initChild(), child);
  }
  names_.clear();
  uint64_t words = request.totalSize().wordCount;
  count(words);
  window_.add(request.send().ignoreResult(), words * sizeof(capnp::word));
}

void Sender::listed(const FileId& directory) {
  listed_.push_back(directory);
  if (listed_.size() >= kNamesInBatch) send_listed();
}

// The names of these directories come first. The target handles calls in order.
void Sender::send_listed() {
  if (listed_.empty()) return;
  send_names();
  auto request = transfer_.listedRequest();
  auto list = request.initDirectories(unsigned(listed_.size()));
  for (unsigned i = 0; i < listed_.size(); ++i) set_id(list[i], listed_[i]);
  listed_.clear();
  uint64_t words = request.totalSize().wordCount;
  count(words);
  window_.add(request.send().ignoreResult(), words * sizeof(capnp::word));
}

Result<void> Sender::finish() {
  send_nodes();
  while (!in_flight_.empty()) EPOCHFS_DO(settle_oldest());
  EPOCHFS_DO(pump_->flush());
  send_names();
  send_listed();
  window_.drain();
  on_progress_(counters());
  return {};
}

SenderCounters Sender::counters() const {
  SenderCounters all = sent_;
  all.bytes_read += pump_->counters().bytes_read;
  all.bytes_sent += pump_->counters().bytes_sent;
  return all;
}

void Sender::count(uint64_t words) { sent_.bytes_sent += words * sizeof(capnp::word); }

}  // namespace epochfs::replicator
