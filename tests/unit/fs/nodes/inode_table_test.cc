#include "fs/nodes/inode_table.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>

namespace epochfs::fs {
namespace {

Inode inode_of(uint64_t number) {
  Inode inode;
  inode.id = {.inode = number, .birth_ns = 1};
  inode.handle.type = 1;
  inode.handle.size = sizeof number;
  std::memcpy(inode.handle.bytes.data(), &number, sizeof number);
  inode.type = S_IFREG;
  return inode;
}

Inode root() {
  Inode inode = inode_of(0);
  inode.type = S_IFDIR;
  inode.path = share(UniqueFd(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)));
  return inode;
}

size_t resident_bytes() {
  size_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * size_t(::sysconf(_SC_PAGESIZE));
}

class InodeTableTest : public ::testing::Test {
 protected:
  std::vector<NodeId> add(uint64_t first, uint64_t count) {
    std::vector<NodeId> nodes;
    for (uint64_t i = first; i < first + count; ++i) nodes.push_back(table_.add(inode_of(i)));
    return nodes;
  }
  void forget(const std::vector<NodeId>& nodes) {
    for (NodeId node : nodes) table_.forget(node, 1);
  }
  bool knows(NodeId node) {
    Inode out;
    return table_.find(node, out) == 0;
  }

  InodeTable table_{root(), 64};
};

TEST_F(InodeTableTest, KnowsAFileUntilEveryLookupIsGivenBack) {
  const NodeId node = table_.add(inode_of(7));
  EXPECT_EQ(table_.add(inode_of(7)), node);
  table_.forget(node, 1);
  Inode out;
  ASSERT_EQ(table_.find(node, out), 0);
  EXPECT_EQ(out.id.inode, 7u);
  table_.forget(node, 1);
  EXPECT_EQ(table_.find(node, out), -ESTALE);
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(InodeTableTest, NodesThatWereNeverGivenOutAreStale) {
  add(1, 100);
  for (NodeId node : {NodeId(0), NodeId(63), NodeId(64'000'000), NodeId(UINT32_MAX), ~NodeId(0)}) {
    EXPECT_FALSE(knows(node)) << node;
  }
}

// Not even when the memory of the first ones has gone back in between.
TEST_F(InodeTableTest, NeverUsesANodeAgain) {
  std::set<NodeId> seen;
  size_t count = 0;
  for (int round = 0; round < 4; ++round) {
    const auto nodes = add(1, 300'000);
    for (NodeId node : nodes) EXPECT_TRUE(knows(node));
    seen.insert(nodes.begin(), nodes.end());
    count += nodes.size();
    forget(nodes);
  }
  EXPECT_EQ(seen.size(), count);
  for (NodeId node : seen) ASSERT_FALSE(knows(node));
}

TEST_F(InodeTableTest, FindsWhatStaysAmongWhatGoes) {
  const auto nodes = add(1, 300'000);
  std::vector<NodeId> going;
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (i % 1000 != 0) going.push_back(nodes[i]);
  }
  forget(going);
  EXPECT_EQ(table_.size(), 300u);
  add(1'000'000, 300'000);
  for (size_t i = 0; i < nodes.size(); i += 1000) {
    Inode out;
    ASSERT_EQ(table_.find(nodes[i], out), 0);
    EXPECT_EQ(out.id.inode, i + 1);
    EXPECT_EQ(table_.add(inode_of(i + 1)), nodes[i]);
  }
}

TEST_F(InodeTableTest, GivesMemoryBackWhenTheKernelForgets) {
  constexpr size_t kInodes = 400'000;
  std::vector<NodeId> nodes;
  nodes.reserve(kInodes);
  ::malloc_trim(0);  // nothing that other tests left may be used instead
  const size_t before = resident_bytes();
  for (uint64_t i = 1; i <= kInodes; ++i) nodes.push_back(table_.add(inode_of(i)));
  const size_t full = resident_bytes() - before;
  forget(nodes);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which count differently
  EXPECT_LT(full, kInodes * 130);
  // What stays: `nodes`, the hash chains' heads, and one chunk for each shard.
  EXPECT_LT(resident_bytes() - before, kInodes * 30);
#else
  EXPECT_GT(full, 0u);
#endif
}

}  // namespace
}  // namespace epochfs::fs
