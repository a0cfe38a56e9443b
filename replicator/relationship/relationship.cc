#include "replicator/relationship/relationship.h"

#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <kj/exception.h>

#include <memory>

#include "journal/base/directory.h"

namespace epochfs::replicator {
namespace {

constexpr const char* kDirectory = "relationships";
constexpr size_t kMaxFileBytes = 64 << 10;
constexpr const char* kDecisions[] = {"pending", "accepted", "declined", "deleted"};

}  // namespace

void write_blackouts(const std::vector<BlackoutWindow>& from,
                     capnp::List<rpc::Blackout>::Builder to) {
  for (unsigned i = 0; i < from.size(); ++i) {
    const BlackoutWords words = words_of(from[i]);
    auto days = to[i].initDays(unsigned(words.days.size()));
    for (unsigned d = 0; d < words.days.size(); ++d) days.set(d, words.days[d]);
    to[i].setStart(words.start);
    to[i].setEnd(words.end);
  }
}

Result<std::vector<BlackoutWindow>> read_blackouts(capnp::List<rpc::Blackout>::Reader from) {
  std::vector<BlackoutWindow> windows;
  for (auto window : from) {
    BlackoutWords words;
    for (auto day : window.getDays()) words.days.push_back(day);
    words.start = window.getStart();
    words.end = window.getEnd();
    EPOCHFS_TRY(BlackoutWindow read, read_words(words));
    windows.push_back(read);
  }
  return windows;
}

void write_relationship(const Relationship& r, rpc::Relationship::Builder to) {
  to.setId(r.id);
  to.setRole(r.role);
  to.setSourceDirectory(r.source_directory);
  to.setTargetDirectory(r.target_directory);
  to.setPeer(r.peer);
  to.setPort(r.port);
  to.setEnabled(r.enabled);
  write_blackouts(r.windows, to.initBlackouts(unsigned(r.windows.size())));
  to.setTimeZone(r.time_zone);
  to.setLineage(r.lineage.to_string());
  to.setCreatedNs(r.created_ns);
  to.setIntervalMs(r.interval_ms);
  to.setDecision(kDecisions[static_cast<int>(r.decision)]);
  to.setEnded(r.ended);
  to.setCursor(value(r.cursor));
  to.setStateHash(r.state_hash);
  to.setBarrierTimeNs(r.barrier_time_ns);
  to.setWalkSince(value(r.walk_since));
  to.setReplaceContents(r.replace_contents);
  to.setEstablished(r.established);
}

Result<void> check_interval(uint32_t interval_ms) {
  if (interval_ms >= kMinIntervalMs && interval_ms <= kMaxIntervalMs) return {};
  return fail(fmt::format("an interval of {:g} seconds is out of range; it is from {:g} to {:g}",
                          interval_ms / 1e3, kMinIntervalMs / 1e3, kMaxIntervalMs / 1e3),
              0, ExitStatus::kUsage);
}

Result<Relationship> read_relationship(rpc::Relationship::Reader from) {
  Relationship r;
  r.id = from.getId();
  r.role = from.getRole();
  r.source_directory = from.getSourceDirectory();
  r.target_directory = from.getTargetDirectory();
  r.peer = from.getPeer();
  r.port = from.getPort();
  r.enabled = from.getEnabled();
  EPOCHFS_TRY(r.windows, read_blackouts(from.getBlackouts()));
  if (from.hasTimeZone()) r.time_zone = from.getTimeZone();
  EPOCHFS_TRY(r.blackouts, BlackoutSchedule::make(r.windows, r.time_zone));
  if (from.hasLineage() && !Uuid::parse(std::string(from.getLineage()), r.lineage)) {
    return fail("relationship " + r.id + ": lineage is no UUID");
  }
  r.created_ns = from.getCreatedNs();
  EPOCHFS_DO(check_interval(from.getIntervalMs()));
  r.interval_ms = from.getIntervalMs();
  for (int i = 0; i < 4; ++i) {
    if (from.getDecision() == kDecisions[i]) r.decision = static_cast<Decision>(i);
  }
  r.ended = from.getEnded();
  r.cursor = EpochId{from.getCursor()};
  r.state_hash = from.getStateHash();
  r.barrier_time_ns = from.getBarrierTimeNs();
  r.walk_since = EpochId{from.getWalkSince()};
  r.replace_contents = from.getReplaceContents();
  r.established = from.getEstablished();
  return r;
}

Result<RelationshipStore> RelationshipStore::open(Storage& storage, const std::string& state_dir) {
  RelationshipStore store;
  store.storage_ = &storage;
  const std::string path = state_dir + "/" + kDirectory;
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno("make directory " + path);
  }
  EPOCHFS_TRY(store.dir_, open_directory(path));
  return store;
}

Result<std::vector<Relationship>> RelationshipStore::load() const {
  std::vector<Relationship> out;
  EPOCHFS_DO(for_each_entry(dir_.get(), kDirectory, [&](std::string name) -> Result<void> {
    if (name.size() != 17 || !name.ends_with(".json")) return {};
    EPOCHFS_TRY(std::string text, read_file(dir_.get(), name, kMaxFileBytes));
    capnp::MallocMessageBuilder message;
    auto builder = message.initRoot<rpc::Relationship>();
    capnp::JsonCodec json;
    auto broken = kj::runCatchingExceptions(
        [&] { json.decode(kj::ArrayPtr<const char>(text.data(), text.size()), builder); });
    if (broken != nullptr) {
      return fail(fmt::format("read relationships/{}: not the JSON of a relationship", name));
    }
    EPOCHFS_TRY(auto relationship, read_relationship(builder.asReader()));
    out.push_back(std::move(relationship));
    return {};
  }));
  return out;
}

Result<void> RelationshipStore::save(const Relationship& r) const {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<rpc::Relationship>();
  write_relationship(r, builder);
  capnp::JsonCodec json;
  json.setPrettyPrint(true);
  kj::String text = json.encode(builder.asReader());
  return storage_->replace_file("relationship", dir_.get(), r.id + ".json",
                                std::string(text.cStr()) + "\n");
}

Result<void> RelationshipStore::remove(const std::string& id) const {
  return storage_->remove_file("relationship-remove", dir_.get(), id + ".json");
}

}  // namespace epochfs::replicator
