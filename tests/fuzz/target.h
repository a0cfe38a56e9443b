// Target: what does a fuzz target give, whoever drives it?
//
// A file NAME_fuzz.cc that defines the two functions below, and a word for NAME in
// meson.build, is a new target. driver.cc runs it for a bounded time in the tests,
// libFuzzer for as long as one likes (-Dfuzzer=true, README.md here).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/random.h"

// Any bytes. Ends by itself, and aborts where something does not hold that must. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace epochfs::fuzz {

// Inputs to begin with, made by the real encoders: one call gives some that differ in kind,
// the next call others. libFuzzer's corpus is made of them, and what the driver damages.
std::vector<std::string> seeds(testing::Random& random);

// Inputs of a run in the tests: a few seconds, with sanitizers too.
extern const uint64_t kShortRun;

}  // namespace epochfs::fuzz
