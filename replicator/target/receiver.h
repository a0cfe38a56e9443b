// Receiver: how does a source drive a Target over RPC? The Session and Transfer of
// schema/replication.capnp over target.h. Calls run blocking, one after the other,
// on the thread whose event loop serves the connection: one thread a session.
//
// Exceptions of RPC stop here: what comes out is a failed call, or an Outcome.
#pragma once

#include <functional>
#include <memory>

#include "replicator/target/target.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// The session of an opened target. When it is dropped, by the peer or with the
// connection, what was staged is made durable. on_commit hears of every commit,
// before the source does.
rpc::Session::Client serve_session(
    std::shared_ptr<Target> target,
    std::function<void(const RecoveryPoint&)> on_commit = [](const RecoveryPoint&) {});

void fill(rpc::TargetState::Builder out, const RecoveryPoint& state);
void fill(rpc::Outcome::Builder out, const Refusal& refusal);  // kBusy counts as failed

}  // namespace epochfs::replicator
