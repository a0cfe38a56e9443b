#include "replicator/relationship/relationship.h"

#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <kj/exception.h>

#include <algorithm>
#include <iterator>
#include <memory>

#include "journal/base/directory.h"
#include "journal/base/text.h"

namespace epochfs::replicator {
namespace {

constexpr const char* kDirectory = "relationships";
constexpr size_t kMaxFileBytes = 64 << 10;
constexpr std::string_view kSuffix = ".json";
constexpr const char* kDecisions[] = {"pending", "accepted", "declined", "deleted"};

// Id, role, directories and peer: what can be told of a relationship even if the rest is not valid.
void read_outline(rpc::Relationship::Reader from, Relationship& to) {
  to.id = from.getId();
  to.role = from.getRole();
  to.source_directory = from.getSourceDirectory();
  to.target_directory = from.getTargetDirectory();
  to.peer = from.getPeer();
  to.port = from.getPort();
}

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

std::string reason_of_peer(std::string_view reason) {
  constexpr std::string_view kCut = "...";
  std::string text = escape(reason.substr(0, kMaxReasonBytes));
  if (text.size() <= kMaxReasonBytes && reason.size() <= kMaxReasonBytes) return text;
  size_t end = std::min(text.size(), kMaxReasonBytes - kCut.size());
  // Not within a character.
  while (end > 0 && end < text.size() && (text[end] & 0xc0) == 0x80) --end;
  text.resize(end);
  return text += kCut;
}

std::string damage_text(const DamagedRelationship& damaged) {
  return fmt::format(
      "{}; nothing is replicated, and the file is kept as it is; repair it or put it back from a "
      "backup, then restart the daemon, or give the relationship up with: epochfs relationship "
      "delete {}",
      damaged.reason, damaged.id);
}

void write_damaged(const DamagedRelationship& damaged, rpc::Relationship::Builder to) {
  write_relationship(damaged.readable, to);
  to.setDecision("damaged");
  to.setEnded(damage_text(damaged));
}

Result<void> check_interval(uint32_t interval_ms) {
  if (interval_ms >= kMinIntervalMs && interval_ms <= kMaxIntervalMs) return {};
  return fail(fmt::format("an interval of {:g} seconds is out of range; it is from {:g} to {:g}",
                          interval_ms / 1e3, kMinIntervalMs / 1e3, kMaxIntervalMs / 1e3),
              0, ExitStatus::kUsage);
}

Result<Relationship> read_relationship(rpc::Relationship::Reader from) {
  Relationship r;
  read_outline(from, r);
  r.enabled = from.getEnabled();
  EPOCHFS_TRY(r.windows, read_blackouts(from.getBlackouts()));
  if (from.hasTimeZone()) r.time_zone = from.getTimeZone();
  EPOCHFS_TRY(r.blackouts, BlackoutSchedule::make(r.windows, r.time_zone));
  if (from.hasLineage() && !Uuid::parse(std::string(from.getLineage()), r.lineage)) {
    return fail(fmt::format("the lineage \"{}\" is no UUID", escape(from.getLineage().cStr())));
  }
  r.created_ns = from.getCreatedNs();
  EPOCHFS_DO(check_interval(from.getIntervalMs()));
  r.interval_ms = from.getIntervalMs();
  const auto decision = std::find(std::begin(kDecisions), std::end(kDecisions),
                                  std::string_view(from.getDecision().cStr()));
  if (decision == std::end(kDecisions)) {
    return fail(fmt::format("the decision \"{}\" is not known", escape(from.getDecision().cStr())));
  }
  r.decision = static_cast<Decision>(decision - std::begin(kDecisions));
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
  store.path_ = state_dir + "/" + kDirectory;
  if (::mkdir(store.path_.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno("make directory " + store.path_);
  }
  EPOCHFS_TRY(store.dir_, open_directory(store.path_));
  return store;
}

Result<RelationshipStore::Loaded> RelationshipStore::load() const {
  Loaded out;
  EPOCHFS_DO(for_each_entry(dir_.get(), path_, [&](std::string name) {
    if (!name.ends_with(kSuffix)) return;
    const std::string id = name.substr(0, name.size() - kSuffix.size());
    if (!is_relationship_id(id)) return;
    Relationship relationship;
    if (auto loaded = load_file(name, relationship); loaded) {
      out.sound.push_back(std::move(relationship));
    } else {
      relationship.id = id;
      out.damaged.push_back(
          {id, fmt::format("cannot use {}/{}: {}", path_, name, loaded.error().message()),
           std::move(relationship)});
    }
  }));
  return out;
}

// After an error, `out` has what could be read.
Result<void> RelationshipStore::load_file(const std::string& name, Relationship& out) const {
  out.role = rpc::Role::UNKNOWN;
  EPOCHFS_TRY(std::string text, read_file(dir_.get(), name, kMaxFileBytes));
  if (text.empty()) return fail("it is empty");
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<rpc::Relationship>();
  capnp::JsonCodec json;
  auto broken = kj::runCatchingExceptions(
      [&] { json.decode(kj::ArrayPtr<const char>(text.data(), text.size()), builder); });
  if (broken != nullptr) return fail("it is not the JSON of a relationship");
  read_outline(builder.asReader(), out);
  if (out.id + std::string(kSuffix) != name) {
    return fail(fmt::format("it is of a relationship \"{}\"", escape(out.id)));
  }
  if (out.role != rpc::Role::SOURCE && out.role != rpc::Role::TARGET) {
    return fail("it tells no role");
  }
  EPOCHFS_TRY(out, read_relationship(builder.asReader()));
  return {};
}

Result<void> RelationshipStore::save(const Relationship& r) const {
  capnp::MallocMessageBuilder message;
  auto builder = message.initRoot<rpc::Relationship>();
  write_relationship(r, builder);
  capnp::JsonCodec json;
  json.setPrettyPrint(true);
  const std::string text = std::string(json.encode(builder.asReader()).cStr()) + "\n";
  if (text.size() > kMaxFileBytes) {
    return fail(
        fmt::format("save relationship {}: its file would have {} bytes, and the most is {}", r.id,
                    text.size(), kMaxFileBytes));
  }
  return storage_->replace_file("relationship", dir_.get(), r.id + std::string(kSuffix), text);
}

Result<void> RelationshipStore::remove(const std::string& id) const {
  return storage_->remove_file("relationship-remove", dir_.get(), id + std::string(kSuffix));
}

}  // namespace epochfs::replicator
