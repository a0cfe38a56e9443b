// Connections between hosts: whom does a change wake, and what may a peer send?
#include "replicator/peer/peers.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "replicator/peer/dial.h"
#include "replicator/peer/proposal.h"

namespace epochfs::replicator {
namespace {

using namespace std::chrono_literals;
constexpr auto kPatience = 30 * kj::SECONDS;

std::set<std::string> threads() {
  std::set<std::string> out;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    out.insert(entry.path().filename());
  }
  return out;
}

// How often each of these threads has gone to sleep so far. One that is not woken does not.
std::map<std::string, uint64_t> sleeps(const std::set<std::string>& of) {
  std::map<std::string, uint64_t> out;
  for (const auto& thread : of) {
    std::ifstream status("/proc/self/task/" + thread + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("voluntary_ctxt_switches:")) out[thread] = std::stoull(line.substr(24));
    }
  }
  return out;
}

class PeersTest : public testing::Test {
 protected:
  PeersTest() : io_(kj::setupAsyncIo()) {
    char name[] = "/var/tmp/epochfs-peers-XXXXXX";
    dir_ = ::mkdtemp(name);
    table_ = RelationshipTable::open(Storage::system(), dir_).value();
    board_ = std::make_unique<ProgressBoard>(*table_);
    // A sanitizer begins a thread of its own with the first that the program begins.
    std::thread([] {}).join();
    before_ = threads();
    ListenAddress address{"127.0.0.1", 0};
    UniqueFd listener = listen_tcp(address).value();
    port_ = address.port;
    peers_ = std::make_unique<Peers>(*table_, *board_, Storage::system(), Clock::system(),
                                     std::move(listener));
  }
  ~PeersTest() noexcept override { std::filesystem::remove_all(dir_); }
  void TearDown() override { peers_.reset(); }

  Relationship make(const std::string& id) {
    Relationship r;
    r.id = id;
    r.role = rpc::Role::TARGET;
    r.source_directory = "/data";
    r.target_directory = "/replica";
    return r;
  }

  UniqueFd connect() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port_);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
    return fd;
  }

  // The threads that came since the fixture began, once there are so many and all of them sleep.
  std::set<std::string> settled(size_t count) {
    std::set<std::string> ours;
    std::map<std::string, uint64_t> last;
    for (int i = 0; i < 600; ++i) {
      ours = threads();
      for (const auto& thread : before_) ours.erase(thread);
      auto now = sleeps(ours);
      if (ours.size() == count && now == last) return ours;
      last = std::move(now);
      std::this_thread::sleep_for(50ms);
    }
    ADD_FAILURE() << ours.size() << " threads instead of " << count << ", or they do not settle";
    return ours;
  }

  template <typename T>
  T wait(kj::Promise<T>&& promise) {
    return io_.provider->getTimer().timeoutAfter(kPatience, kj::mv(promise)).wait(io_.waitScope);
  }

  kj::AsyncIoContext io_;
  std::string dir_;
  std::unique_ptr<RelationshipTable> table_;
  std::unique_ptr<ProgressBoard> board_;
  std::set<std::string> before_;
  uint16_t port_ = 0;
  std::unique_ptr<Peers> peers_;
};

TEST_F(PeersTest, AnIdleConnectionSleepsThroughChangesAndProgress) {
  ASSERT_TRUE(table_->add(make("aa0000000000")));
  const UniqueFd idle[] = {connect(), connect(), connect()};
  const auto ours = settled(1 + std::size(idle));  // one accepts
  const auto before = sleeps(ours);
  for (int i = 0; i < 500; ++i) {
    board_->update("aa0000000000", [](Progress& p) { ++p.files_sent; });
    if (i % 50 != 0) continue;
    ASSERT_TRUE(table_->update("aa0000000000", [](Relationship&) -> Result<void> { return {}; }));
  }
  std::this_thread::sleep_for(200ms);
  EXPECT_EQ(sleeps(ours), before);
}

TEST_F(PeersTest, ADecisionWakesOnlyTheConnectionThatAwaitsIt) {
  auto first = make("aa0000000000"), second = make("bb0000000000");
  auto await = [&](kj::Own<PeerConnection>& connection, const Relationship& r) {
    auto request = connection->host().awaitDecisionRequest();
    write_proposal(r, request.initProposal());
    return request.send();
  };
  auto a = wait(dial(*io_.provider, "127.0.0.1", port_));
  auto await_a = await(a, first);
  auto b = wait(dial(*io_.provider, "127.0.0.1", port_));
  auto await_b = await(b, second);
  for (const auto& r : {first, second}) {  // both are filed
    for (int i = 0; i < 600 && !table_->contains(r.id); ++i) {
      io_.provider->getTimer().afterDelay(50 * kj::MILLISECONDS).wait(io_.waitScope);
    }
  }
  const auto ours = settled(3);
  const auto before = sleeps(ours);
  auto decide = [&](const std::string& id, Decision decision) {
    return table_->update(id, [&](Relationship& r) -> Result<void> {
      r.decision = decision;
      return {};
    });
  };
  ASSERT_TRUE(decide(first.id, Decision::kAccepted));
  EXPECT_EQ(wait(kj::Promise<capnp::Response<rpc::ReplicationHost::AwaitDecisionResults>>(
                     kj::mv(await_a)))
                .getDecision(),
            rpc::Decision::ACCEPTED);
  auto after = sleeps(settled(3));
  size_t woken = 0;
  for (const auto& [thread, count] : after) woken += count != before.at(thread);
  EXPECT_EQ(woken, 1u);
  ASSERT_TRUE(decide(second.id, Decision::kDeclined));
  EXPECT_EQ(wait(kj::Promise<capnp::Response<rpc::ReplicationHost::AwaitDecisionResults>>(
                     kj::mv(await_b)))
                .getDecision(),
            rpc::Decision::DECLINED);
}

// A peer that answers with the head of a message of 16 MiB. Without limits on what it may send, the
// connection would wait for the rest.
TEST_F(PeersTest, DialledPeerThatSendsTooMuchIsLeft) {
  ListenAddress address{"127.0.0.1", 0};
  UniqueFd listener = listen_tcp(address).value();
  auto dialling = dial(*io_.provider, address.host, address.port);
  auto connection = wait(kj::mv(dialling));
  UniqueFd accepted;
  for (int i = 0; i < 600 && !accepted; ++i) {
    accepted.reset(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!accepted) std::this_thread::sleep_for(50ms);
  }
  ASSERT_TRUE(accepted);
  const uint32_t head[2] = {0, (16 << 20) / sizeof(capnp::word)};  // one segment, so many words
  ASSERT_EQ(::write(accepted.get(), head, sizeof head), ssize_t(sizeof head));
  auto hello = connection->host().helloRequest().send().ignoreResult().then(
      [] { return std::string("an answer"); },
      [](kj::Exception&& e) { return std::string(e.getDescription().cStr()); });
  EXPECT_NE(wait(kj::mv(hello)).find("too large"), std::string::npos);
}

}  // namespace
}  // namespace epochfs::replicator
