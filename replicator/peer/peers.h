// Peers: who may talk to this host's target role, and what may they do? Accepts
// connections, one thread with one event loop each, and serves ReplicationHost on
// them: greet, file a request, wait for its decision, and, for an accepted
// relationship, open a session on the target directory.
#pragma once

#include <atomic>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "replicator/peer/transport.h"
#include "replicator/relationship/board.h"
#include "replicator/relationship/table.h"

namespace epochfs::replicator {

constexpr size_t kMaxConnections = 256;

class Target;

class Peers {
 public:
  // Takes over the listening socket.
  Peers(RelationshipTable& table, ProgressBoard& board, Storage& storage, UniqueFd listener);
  ~Peers();  // ends every connection

 private:
  struct Connection {
    std::thread thread;
    LoopSignal wakeup;
    std::atomic<bool> superseded{false};  // a later one has opened its relationship
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
  UniqueFd listener_;
  UniqueFd stop_event_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::list<Connection> connections_;
  // Relationship id -> its open target, and the connection that has it.
  struct Opened {
    std::weak_ptr<Target> target;
    Connection* connection;
  };
  std::map<std::string, Opened> opened_;
  std::thread thread_;
};

}  // namespace epochfs::replicator
