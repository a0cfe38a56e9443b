// Failure: how does an error travel from one process of this host to another, and become an exit
// status there? The one place that turns an Error into a Failure of schema/control.capnp, and back.
#pragma once

#include "journal/base/result.h"
#include "schema/control.capnp.h"

namespace epochfs {

void write_failure(rpc::Failure::Builder out, const Error& error);

// What a Failure says; no error where it is empty.
Result<void> read_failure(rpc::Failure::Reader failure);

// Fills in the failure of a call's results if the outcome is one.
template <typename Results>
void answer(Results&& results, const Result<void>& outcome) {
  if (!outcome) write_failure(results.initFailure(), outcome.error());
}

}  // namespace epochfs
