// MountClient: how does a command ask the process of a mount? Through the control socket in the
// journal's folder. The mount's root says where that is.
//
// Threads: only the one that made it.
#pragma once

#include <kj/async-io.h>
#include <kj/async-unix.h>

#include <chrono>
#include <memory>
#include <string>

#include "journal/control/unix_rpc.h"
#include "schema/control.capnp.h"

namespace epochfs::fs {

class MountClient {
 public:
  // `dir` is a mountpoint or a journal folder. `doing` begins every error: "cut epoch of". Errors:
  // kUnreachable if no process answers, kNotAuthorized if the mount belongs to another user.
  static Result<std::unique_ptr<MountClient>> connect(const std::string& doing,
                                                      const std::string& dir);

  rpc::Mount::Client mount() { return client_->bootstrap<rpc::Mount>(); }

  // Returns the answer, or why there is none. Gives up when `interrupt`, if any, becomes readable;
  // the mount may still carry the call out.
  template <typename Results>
  Result<capnp::Response<Results>> wait(capnp::RemotePromise<Results> call,
                                        std::chrono::seconds patience, int interrupt = -1) {
    using Answer = Result<capnp::Response<Results>>;
    auto answer = call.then(
        [](auto&& response) -> Answer { return kj::mv(response); },
        [this](kj::Exception&& e) -> Answer { return no_answer(e.getDescription().cStr()); });
    auto too_late = io_.provider->getTimer()
                        .afterDelay(patience.count() * kj::SECONDS)
                        .then([this]() -> Answer { return late(); });
    answer = answer.exclusiveJoin(kj::mv(too_late));
    if (interrupt < 0) return answer.wait(io_.waitScope);
    kj::UnixEventPort::FdObserver observer(io_.unixEventPort, interrupt,
                                           kj::UnixEventPort::FdObserver::OBSERVE_READ);
    auto stop = observer.whenBecomesReadable().then([this]() -> Answer { return interrupted(); });
    return answer.exclusiveJoin(kj::mv(stop)).wait(io_.waitScope);
  }

 private:
  MountClient(std::string doing, std::string socket)
      : doing_(std::move(doing)), socket_(std::move(socket)), io_(kj::setupAsyncIo()) {}
  tl::unexpected<Error> no_answer(const char* why) const;
  tl::unexpected<Error> late() const;
  tl::unexpected<Error> interrupted() const;

  const std::string doing_, socket_;
  kj::AsyncIoContext io_;
  std::unique_ptr<UnixRpcClient> client_;
};

}  // namespace epochfs::fs
