// Addresses that `serve --listen` takes.
#include "replicator/peer/transport.h"

#include <gtest/gtest.h>

namespace epochfs::replicator {
namespace {

TEST(ListenAddress, TakesBothFamiliesAndADefaultPort) {
  EXPECT_EQ(parse_listen_address("127.0.0.1:80", 3712).value().port, 80);
  EXPECT_EQ(parse_listen_address("0.0.0.0", 3712).value().port, 3712);
  auto v6 = parse_listen_address("[::1]:4000", 3712).value();
  EXPECT_EQ(v6.host, "::1");
  EXPECT_EQ(v6.port, 4000);
  EXPECT_TRUE(is_loopback(v6));
  EXPECT_FALSE(is_loopback(parse_listen_address("0.0.0.0", 3712).value()));
}

TEST(ListenAddress, MalformedIsAUsageErrorThatQuotesIt) {
  for (const char* text : {"", "localhost", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:x",
                           "127.0.0.1:", "[::1", "[::1]4000", "1.2.3", "300.1.1.1:80"}) {
    auto address = parse_listen_address(text, 3712);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().status, ExitStatus::kUsage) << text;
  }
}

TEST(ListenTcp, PortZeroIsReplacedByTheOneTheKernelChose) {
  ListenAddress address{"127.0.0.1", 0};
  ASSERT_TRUE(listen_tcp(address));
  EXPECT_NE(address.port, 0);
}

}  // namespace
}  // namespace epochfs::replicator
