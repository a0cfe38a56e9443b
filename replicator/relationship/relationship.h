// Relationship: what have a source and a target agreed, and how far has replication come? The
// record that each side keeps, and its place on disk: <state>/relationships/<id>.json, which every
// change replaces durably.
#pragma once

#include <string>
#include <string_view>
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

// What a peer gave as a reason, fit to be kept and shown: escaped, and never longer than
// kMaxReasonBytes.
constexpr size_t kMaxReasonBytes = 1024;
std::string reason_of_peer(std::string_view reason);

// A relationship whose file cannot be used. The file stays as it is.
struct DamagedRelationship {
  std::string id;      // from the file's name
  std::string reason;  // "cannot use FILE: why"
  // What the file tells all the same. The role is UNKNOWN where it does not tell it.
  Relationship readable;
};
// The reason, and what to do.
std::string damage_text(const DamagedRelationship& damaged);
// For lists: the decision is "damaged".
void write_damaged(const DamagedRelationship& from, rpc::Relationship::Builder to);

// The files on disk. The caller lets in one thread at a time (table.h).
class RelationshipStore {
 public:
  struct Loaded {
    std::vector<Relationship> sound;
    std::vector<DamagedRelationship> damaged;
  };

  static Result<RelationshipStore> open(Storage& storage, const std::string& state_dir);
  // A file that cannot be used is no error: it is among the damaged.
  Result<Loaded> load() const;
  // Never writes a file that load() would find too long.
  Result<void> save(const Relationship& relationship) const;
  Result<void> remove(const std::string& id) const;

 private:
  Result<void> load_file(const std::string& name, Relationship& out) const;

  Storage* storage_ = nullptr;
  std::string path_;
  UniqueFd dir_;
};

}  // namespace epochfs::replicator
