#include "journal/control/failure.h"

namespace epochfs {

void write_failure(rpc::Failure::Builder out, const Error& error) {
  out.setMessage(error.message());
  out.setStatus(static_cast<uint8_t>(error.status));
}

Result<void> read_failure(rpc::Failure::Reader failure) {
  if (!failure.hasMessage() || failure.getMessage().size() == 0) return {};
  // A newer process may know statuses that this one does not.
  const bool known = failure.getStatus() >= static_cast<uint8_t>(ExitStatus::kFailed) &&
                     failure.getStatus() <= static_cast<uint8_t>(ExitStatus::kTimedOut);
  return fail(failure.getMessage(), 0,
              known ? static_cast<ExitStatus>(failure.getStatus()) : ExitStatus::kFailed);
}

}  // namespace epochfs
