// Peers: who may talk to this host as a target, and what may they do? Accepts connections, and
// serves ReplicationHost on each: a peer may greet, file a request, wait for the decision on it,
// and open a session on the target directory of an accepted relationship.
//
// Each connection has a thread with an event loop. A connection watches only the relationship whose
// decision it awaits and the one that it has opened; one that asks for nothing sleeps.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <thread>

#include "journal/base/clock.h"
#include "journal/base/mutex.h"
#include "replicator/peer/transport.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"

namespace epochfs::replicator {

constexpr size_t kMaxConnections = 256;

class Target;

class Peers {
 public:
  // Takes over the listening socket.
  Peers(RelationshipTable& table, ProgressBoard& board, Storage& storage, const Clock& clock,
        UniqueFd listener);
  ~Peers();  // ends every connection

 private:
  struct Connection {
    std::thread thread;
    LoopSignal wakeup;
    std::atomic<bool> superseded{false};  // a later connection wants its relationship
    std::atomic<bool> done{false};
  };
  class Host;
  void accept_loop();
  void serve(Connection& connection, UniqueFd fd, std::string peer);
  void reap(bool all);
  void supersede(const std::string& relationship);

  RelationshipTable& table_;
  ProgressBoard& board_;
  Storage& storage_;
  const Clock& clock_;
  UniqueFd listener_;
  UniqueFd stop_event_;
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::list<Connection> connections_ EPOCHFS_GUARDED_BY(mutex_);
  // Relationship id -> its open target, and the connection that has it open.
  struct Opened {
    std::weak_ptr<Target> target;
    Connection* connection;
  };
  std::map<std::string, Opened> opened_ EPOCHFS_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace epochfs::replicator
