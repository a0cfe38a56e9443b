// Receiver: how does a source drive a Target over RPC? Serves the Session and Transfer of
// schema/replication.capnp with a Target. Calls block, one after the other, on the thread whose
// event loop serves the connection. Every session has a thread of its own.
//
// An expected failure becomes an Outcome or a failed call; errors of the target go no further.
#pragma once

#include <functional>
#include <memory>

#include "replicator/target/target.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// Serves one session of an opened target. When the session is dropped, by the peer or with the
// connection, what was staged is made durable. Calls on_commit after every commit, before the
// source gets its answer.
rpc::Session::Client serve_session(
    std::shared_ptr<Target> target,
    std::function<void(const RecoveryPoint&)> on_commit = [](const RecoveryPoint&) {});

void fill(rpc::TargetState::Builder out, const RecoveryPoint& state);
void fill(rpc::Outcome::Builder out, const Refusal& refusal);  // kBusy counts as failed

}  // namespace epochfs::replicator
