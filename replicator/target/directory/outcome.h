// Outcome: did the target do what it was asked, and if not, what follows? A Refusal is an error
// and its meaning for the peer. receiver.cc alone turns it into an rpc::Outcome.
#pragma once

#include <string>
#include <utility>

#include "journal/base/result.h"

namespace epochfs::replicator {

struct Refusal {
  enum class Kind {
    kFailed,        // may work later: disk full, no permission
    kUnknownState,  // the target does not hold what the source believes
    kTargetLost,    // the target directory vanished, or is a different one
    kBusy,          // another session uses this relationship's stage
  };

  Refusal(Error e) : error(std::move(e)) {}  // any plain error is a failure
  Refusal(Kind k, Error e) : kind(k), error(std::move(e)) {}

  Kind kind = Kind::kFailed;
  Error error;
};

template <typename T>
using Outcome = tl::expected<T, Refusal>;

inline tl::unexpected<Refusal> refuse(Refusal::Kind kind, std::string what, int code = 0) {
  return tl::unexpected(Refusal(kind, Error{std::move(what), code}));
}
inline tl::unexpected<Refusal> unknown_state(std::string what, int code = 0) {
  return refuse(Refusal::Kind::kUnknownState, std::move(what), code);
}

// Lets a test stop the target between two steps of its work: an error or exception of at() ends
// the work there.
class Steps {
 public:
  virtual ~Steps() = default;
  virtual Result<void> at(const char* label) {
    (void)label;
    return {};
  }
};

}  // namespace epochfs::replicator
