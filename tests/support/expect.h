// Expect: how does a test use a Result<T>? ASSERT_OK and EXPECT_OK print the error; must()
// takes the value where nothing but success makes sense.
#pragma once

#include <gtest/gtest.h>

#include <utility>

#include "journal/base/result.h"

#define ASSERT_OK(expression)                                        \
  do {                                                               \
    auto&& outcome_ = (expression);                                  \
    ASSERT_TRUE(outcome_.has_value()) << outcome_.error().message(); \
  } while (0)
#define EXPECT_OK(expression)                                        \
  do {                                                               \
    auto&& outcome_ = (expression);                                  \
    EXPECT_TRUE(outcome_.has_value()) << outcome_.error().message(); \
  } while (0)

namespace epochfs::testing {

// Prints the error and aborts. An abort ends a forked child and a fuzz target, too, where
// an exception would find GoogleTest, or nobody.
[[noreturn]] void abort_with(const Error& error);

// The value, or the end of the process.
template <typename T>
T must(Result<T> result) {
  if (!result) abort_with(result.error());
  return *std::move(result);
}
inline void must(Result<void> result) {
  if (!result) abort_with(result.error());
}

}  // namespace epochfs::testing
