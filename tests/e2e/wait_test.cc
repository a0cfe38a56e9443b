// When does `epochfs wait` return, with which status, and what does it say then?
#include "tests/e2e/files.h"
#include "tests/e2e/replica.h"

namespace epochfs::testing {
namespace {

constexpr int kTimedOut = 8;

class WaitTest : public TwoHosts {
 protected:
  Arguments words(const Arguments& more) {
    Arguments arguments = {"wait", replica().id()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Outcome wait(const Arguments& more) { return a().epochfs(words(more)); }
};

// However short: none is taken for no limit.
TEST_F(WaitTest, ATimeoutBelowAMillisecondEnds) {
  establish();
  EXPECT_EQ(wait({"--epoch", "1000000", "--timeout", "0.0004"}).status, kTimedOut);
  EXPECT_EQ(wait({"--epoch", "1000000", "--timeout", "1e-300"}).status, kTimedOut);
}

}  // namespace
}  // namespace epochfs::testing
