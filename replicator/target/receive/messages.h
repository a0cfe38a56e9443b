// Messages: what exactly did the source say? Turns the lists of a call into plain values, and
// refuses the call if anything in it breaks the schema's rules. Every field is hostile until it
// has been checked here. Acts on nothing.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "replicator/target/index/node.h"
#include "schema/replication.capnp.h"

namespace epochfs::replicator {

// The most bytes that the blocks of one call may decode to.
constexpr size_t kMaxDecodedBytes = 64 << 20;
constexpr uint64_t kMaxOffset = INT64_MAX;
constexpr size_t kMaxXattrNamesBytes = 65536;  // XATTR_LIST_MAX

struct NodeMessage {
  FileId id;
  FixedAttributes attributes;
  std::vector<Xattr> xattrs;
  std::string symlink_target;
  Content content = Content::kNone;
  uint64_t version = 0;
  bool fresh = false;
};

struct BlockMessage {
  FileId id;
  uint64_t offset = 0;
  uint64_t length = 0;
  bool hole = false;
  std::string_view bytes;  // decoded, `length` bytes; empty for a hole
};

struct BlockMessages {
  std::vector<BlockMessage> blocks;
  std::unique_ptr<char[]> decoded;  // the bytes of LZ4 blocks
};

struct NameMessage {
  EntryName entry;
  FileId child;
};

struct TransferPlan {
  uint64_t epoch = 0;
  uint64_t base = 0;
  uint64_t barrier_ns = 0;
  uint64_t state_hash = 0;
  bool full = false;
  uint64_t walk_since = 0;
  FileId root;
};

// Errors name the entry of the list that is wrong, and say why. Any thread.
Result<std::vector<NodeMessage>> parse_nodes(capnp::List<rpc::Node>::Reader list);
Result<BlockMessages> parse_blocks(capnp::List<rpc::Block>::Reader list);  // borrows the message
Result<std::vector<NameMessage>> parse_names(capnp::List<rpc::Name>::Reader list);
Result<std::vector<FileId>> parse_files(capnp::List<rpc::FileId>::Reader list);
Result<TransferPlan> parse_plan(rpc::Plan::Reader plan);

bool is_file_name(std::string_view name);  // one component, as names() may carry it

}  // namespace epochfs::replicator
