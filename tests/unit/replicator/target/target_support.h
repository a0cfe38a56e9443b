// TargetSupport: how do tests feed a Target? With the transfers that follow from two states of
// a TreeOracle, or with any that a test makes up, through the calls that a source would make.
#pragma once

#include <capnp/message.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "journal/changes/byte_ranges.h"
#include "replicator/target/target.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tree_oracle.h"

namespace epochfs::testing {

// ---- what a transfer says ----

// A file as it is sent. Its size is worked out then.
struct SentFile {
  replicator::FixedAttributes attributes;
  std::map<std::string, std::string> xattrs;
  std::string symlink_target;
  std::string data;
};

struct NodeSpec {
  FileId id;
  SentFile file;
  uint32_t links = 1;
  replicator::Content content = replicator::Content::kNone;
  journal::ByteRanges ranges;  // that blocks are sent for
  uint64_t version = 0;
  bool fresh = false;
};

struct TransferSpec {
  replicator::TransferPlan plan;
  std::vector<NodeSpec> nodes;
  std::vector<replicator::NameMessage> names;
  std::vector<FileId> listed;
};

NodeSpec node_spec(const TreeOracle& tree, FileId id, replicator::Content content,
                   uint64_t version);
// The change set between two states, as the journal's fold would have it. Bytes differ in
// pieces of `grain`.
TransferSpec changes(const TreeOracle& base, const TreeOracle& now, uint64_t grain = 512);
// Everything that there is, as a walk would have it.
TransferSpec everything(const TreeOracle& now);

// How the directory differs from the tree, a line for each difference. Empty: it does not.
// Throws Failure where it cannot be read.
std::string compare(const TreeOracle& tree, const std::string& path);

// ---- messages ----

capnp::Data::Reader data_of(std::string_view bytes);
void set(rpc::FileId::Builder out, FileId id);
void write_node(rpc::Node::Builder out, const NodeSpec& spec);
void write_name(rpc::Name::Builder out, const replicator::NameMessage& name);
void write_plan(rpc::Plan::Builder out, const replicator::TransferPlan& plan);

struct BlockSpec {
  FileId id;
  uint64_t offset = 0;
  std::string bytes;
  bool hole = false;
  bool compressed = false;
};
void write_block(rpc::Block::Builder out, const BlockSpec& spec);

// Blocks of one file, in pieces. With `holes`, pieces of zeros become holes.
std::vector<BlockSpec> blocks_of(const NodeSpec& spec, uint64_t piece, bool holes, bool compressed);

// A list of a call, as it would arrive.
template <typename T>
class Message {
 public:
  template <typename Spec, typename F>
  Message(const std::vector<Spec>& specs, F write) {
    auto list =
        builder_.initRoot<capnp::AnyPointer>().initAs<capnp::List<T>>(unsigned(specs.size()));
    for (unsigned i = 0; i < specs.size(); ++i) write(list[i], specs[i]);
  }
  typename capnp::List<T>::Reader reader() {
    return builder_.getRoot<capnp::AnyPointer>().template getAs<capnp::List<T>>().asReader();
  }

 private:
  capnp::MallocMessageBuilder builder_;
};

// ---- driving a target ----

// The calls of a transfer, to a Stage without RPC.
Result<std::vector<replicator::Need>> send_nodes(replicator::Stage& stage,
                                                 const std::vector<NodeSpec>& nodes);
Result<void> send_blocks(replicator::Stage& stage, const std::vector<BlockSpec>& blocks);
Result<void> send_names(replicator::Stage& stage,
                        const std::vector<replicator::NameMessage>& names);
Result<void> send_listed(replicator::Stage& stage, const std::vector<FileId>& directories);
Result<void> send_forgotten(replicator::Stage& stage, const std::vector<FileId>& files);

struct SendOptions {
  uint64_t piece = 4096;
  bool holes = true;
  bool compressed = false;
  size_t batch = 16;
  size_t stop_after_blocks = SIZE_MAX;  // breaks off there
};

struct Sent {
  size_t blocks = 0;
  uint64_t bytes = 0;
  bool complete = true;
};

// All of a transfer except its commit, as a well-behaved source would send it.
Result<Sent> send_files(replicator::Stage& stage, const std::vector<NodeSpec>& nodes,
                        const SendOptions& o = {});
Result<Sent> send_all(replicator::Stage& stage, const TransferSpec& spec,
                      const SendOptions& o = {});
// And with it.
replicator::Outcome<Sent> transfer(replicator::Target& target, const TransferSpec& spec,
                                   const SendOptions& o = {});

template <typename T>
std::string reason(const replicator::Outcome<T>& outcome) {
  return outcome ? "ok" : outcome.error().error.message();
}

#define ASSERT_DONE(expression)                                                \
  do {                                                                         \
    auto&& outcome_ = (expression);                                            \
    ASSERT_TRUE(outcome_.has_value()) << ::epochfs::testing::reason(outcome_); \
  } while (0)

// Storage that syncs nothing, since tests do that all the time. It fails where a real sync
// would refuse the descriptor.
class LazyStorage : public Storage {
 public:
  Result<void> sync_data(const char* label, int fd, std::string_view) override {
    return sync(label, fd);
  }
  Result<void> sync_directory(const char* label, int fd, std::string_view) override {
    return sync(label, fd);
  }
  Result<void> sync_filesystem(const char* label, int fd, std::string_view) override {
    return sync(label, fd);
  }

 protected:
  Result<void> sync(const char* label, int fd);
  virtual Result<void> call(const char*) { return {}; }
};

constexpr const char* kRelationship = "0123456789ab";

replicator::TargetOptions target_options(const TemporaryDirectory& in);

}  // namespace epochfs::testing
