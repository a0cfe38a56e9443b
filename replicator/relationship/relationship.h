// Relationship: what have a source and a target agreed, and how far has replication come? The
// record that each side keeps, and its place on disk: <state>/relationships/<id>.json, which every
// change replaces durably.
#pragma once

#include <string>
#include <vector>

#include "journal/base/storage.h"
#include "journal/base/types.h"
#include "journal/base/unix.h"
#include "replicator/relationship/blackout.h"
#include "replicator/relationship/relationship_id.h"
#include "schema/control.capnp.h"

namespace epochfs::replicator {

constexpr uint16_t kDefaultPort = 3712;
constexpr size_t kMaxRelationships = 100;
constexpr size_t kMaxPending = 100;  // requests that wait for an administrator

enum class Decision { kPending, kAccepted, kDeclined, kDeleted };

struct Relationship {
  std::string id;  // 12 lower-case hex digits
  rpc::Role role = rpc::Role::SOURCE;
  std::string source_directory, target_directory;
  std::string peer;
  uint16_t port = kDefaultPort;
  bool enabled = true;
  BlackoutSchedule blackouts;
  std::vector<BlackoutWindow> windows;  // as given; `blackouts` is made from them
  std::string time_zone = "UTC";
  Uuid lineage;
  uint64_t created_ns = 0;
  uint32_t interval_ms = 1000;  // from one epoch to the next, while there are changes

  Decision decision = Decision::kPending;
  std::string ended;  // why it is over; empty: it is not

  EpochId cursor{};
  uint64_t state_hash = 0;  // source/transfer/history.h
  uint64_t barrier_time_ns = 0;
  EpochId walk_since{};  // where a full transfer began that is not committed yet; 0: none
  bool replace_contents = false;
  bool established = false;  // target: opened before, so an empty directory is a lost one
};

constexpr uint32_t kMinIntervalMs = 100, kMaxIntervalMs = 24 * 3600 * 1000;
Result<void> check_interval(uint32_t interval_ms);

// Blackout windows as messages carry them. `to` has the windows' number. Errors: as read_words().
void write_blackouts(const std::vector<BlackoutWindow>& from,
                     capnp::List<rpc::Blackout>::Builder to);
Result<std::vector<BlackoutWindow>> read_blackouts(capnp::List<rpc::Blackout>::Reader from);

void write_relationship(const Relationship& from, rpc::Relationship::Builder to);
// Errors: windows, a time zone or an interval that are not valid.
Result<Relationship> read_relationship(rpc::Relationship::Reader from);

// The files on disk. The caller lets in one thread at a time (table.h).
class RelationshipStore {
 public:
  static Result<RelationshipStore> open(Storage& storage, const std::string& state_dir);
  Result<std::vector<Relationship>> load() const;
  Result<void> save(const Relationship& relationship) const;
  Result<void> remove(const std::string& id) const;

 private:
  Storage* storage_ = nullptr;
  UniqueFd dir_;
};

}  // namespace epochfs::replicator
