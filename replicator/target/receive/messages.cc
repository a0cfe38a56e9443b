#include "replicator/target/receive/messages.h"

#include <fmt/format.h>
#include <lz4.h>
#include <sys/stat.h>

#include "journal/base/unix.h"
#include "journal/preimages/attributes.h"

namespace epochfs::replicator {
namespace {

constexpr uint32_t kMaxDeviceMajor = (1 << 12) - 1;  // of Linux's dev_t
constexpr uint32_t kMaxDeviceMinor = (1 << 20) - 1;
constexpr uint32_t kNoId = UINT32_MAX;  // means "do not change" to chown

std::string_view view(capnp::Data::Reader d) {
  return {reinterpret_cast<const char*>(d.begin()), d.size()};
}

FileId file_of(rpc::FileId::Reader id) { return {id.getInode(), id.getBirthNs()}; }

// The id, which must be that of a file.
Result<FileId> some_file(rpc::FileId::Reader id) {
  FileId file = file_of(id);
  if (!file) return fail("no file identity");
  return file;
}

Result<Timestamp> parse_time(rpc::Time::Reader t, const char* what) {
  if (t.getNanos() >= 1'000'000'000) return fail(fmt::format("{} has {} ns", what, t.getNanos()));
  return Timestamp{t.getSeconds(), t.getNanos()};
}

bool is_known_type(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK: return (mode & ~uint32_t(S_IFMT | 07777)) == 0;
    default: return false;
  }
}

Result<void> check_device(const FixedAttributes& a) {
  if (!S_ISCHR(a.mode) && !S_ISBLK(a.mode)) return {};
  if (a.rdev >> 32 > kMaxDeviceMajor || (a.rdev & UINT32_MAX) > kMaxDeviceMinor) {
    return fail(fmt::format("device number {:#x} is too large", a.rdev));
  }
  return {};
}

Result<FixedAttributes> parse_fixed(rpc::Attributes::Reader in) {
  FixedAttributes a;
  a.mode = in.getMode();
  if (!is_known_type(a.mode)) return fail(fmt::format("mode {:o} is of no known type", a.mode));
  a.uid = in.getUid();
  a.gid = in.getGid();
  if (a.uid == kNoId || a.gid == kNoId) return fail("owner is not a user");
  a.rdev = in.getRdev();
  a.links = in.getLinks();
  a.size = in.getSize();
  if (a.size > kMaxOffset) return fail(fmt::format("size {} is too large", a.size));
  EPOCHFS_TRY(a.atime, parse_time(in.getAtime(), "atime"));
  EPOCHFS_TRY(a.mtime, parse_time(in.getMtime(), "mtime"));
  EPOCHFS_TRY(a.ctime, parse_time(in.getCtime(), "ctime"));
  EPOCHFS_DO(check_device(a));
  return a;
}

Result<std::vector<Xattr>> parse_xattrs(capnp::List<rpc::Xattr>::Reader list) {
  std::vector<Xattr> out;
  if (list.size() > kMaxXattrNamesBytes / 2) {
    return fail(fmt::format("{} xattrs are too many", list.size()));
  }
  out.reserve(list.size());
  size_t names_bytes = 0;
  for (auto x : list) {
    std::string_view name = view(x.getName()), value = view(x.getValue());
    if (name.empty() || name.size() > rpc::MAX_NAME_BYTES || name.find('\0') != name.npos) {
      return fail("an xattr's name is not one");
    }
    if (value.size() > rpc::MAX_XATTR_BYTES) return fail("xattr " + escape(name) + " is too long");
    names_bytes += name.size() + 1;
    if (names_bytes > kMaxXattrNamesBytes) return fail("there are too many xattrs");
    out.push_back({std::string(name), std::string(value)});
  }
  return out;
}

Result<Content> parse_content(const rpc::Node::Content::Reader& content, uint32_t mode,
                              bool fresh) {
  if (content.isNone()) return Content::kNone;
  if (!journal::is_regular(mode)) return fail("it has content, and is no regular file");
  if (content.isWhole()) return Content::kWhole;
  if (!content.isRanges()) return fail("content of an unknown kind");
  if (fresh) return fail("ranges of a fresh file");
  return Content::kRanges;
}

Result<NodeMessage> parse_node(rpc::Node::Reader in) {
  NodeMessage node;
  EPOCHFS_TRY(node.id, some_file(in.getId()));
  auto attributes = in.getAttributes();
  EPOCHFS_TRY(node.attributes, parse_fixed(attributes));
  EPOCHFS_TRY(node.xattrs, parse_xattrs(attributes.getXattrs()));
  if (S_ISLNK(node.attributes.mode)) {
    std::string_view target = view(attributes.getSymlinkTarget());
    if (target.empty() || target.size() >= rpc::MAX_PATH_BYTES ||
        target.find('\0') != target.npos) {
      return fail("a symbolic link's target is not one");
    }
    node.symlink_target = target;
  }
  node.version = in.getVersion();
  node.fresh = in.getFresh();
  EPOCHFS_TRY(node.content, parse_content(in.getContent(), node.attributes.mode, node.fresh));
  return node;
}

// Checks all but the compressed bytes themselves, which decode_lz4 checks.
Result<BlockMessage> parse_block(rpc::Block::Reader in) {
  BlockMessage block{.offset = in.getOffset(), .length = in.getLength()};
  EPOCHFS_TRY(block.id, some_file(in.getId()));
  if (block.length == 0) return fail("it is empty");
  if (block.offset > kMaxOffset || block.length > kMaxOffset - block.offset) {
    return fail("it reaches beyond every file");
  }
  auto payload = in.getPayload();
  if (payload.isHole()) {
    block.hole = true;
    return block;
  }
  if (block.length > rpc::MAX_BLOCK_BYTES) {
    return fail(fmt::format("{} bytes are too many", block.length));
  }
  if (payload.isRaw()) {
    block.bytes = view(payload.getRaw());
    if (block.bytes.size() != block.length) return fail("its bytes are not as many as it says");
  } else if (payload.isLz4()) {
    block.bytes = view(payload.getLz4());
  } else {
    return fail("payload of an unknown kind");
  }
  return block;
}

Result<void> decode_lz4(BlockMessage& block, char* out) {
  int size =
      LZ4_decompress_safe(block.bytes.data(), out, int(block.bytes.size()), int(block.length));
  if (size < 0 || uint64_t(size) != block.length) {
    return fail("its LZ4 bytes do not decode to its length");
  }
  block.bytes = {out, block.length};
  return {};
}

Error in_entry(const char* what, size_t i, const Error& error) {
  return {fmt::format("{} {} of the call: {}", what, i, error.what), error.code, error.status};
}

// Parses each entry of a list with f. Refuses more than max entries.
template <typename List, typename F>
auto parse_list(const char* what, List list, size_t max, F f)
    -> Result<std::vector<typename std::invoke_result_t<F, decltype(list[0])>::value_type>> {
  if (list.size() > max)
    return fail(fmt::format("{} {}s in one call are too many", list.size(), what));
  std::vector<typename std::invoke_result_t<F, decltype(list[0])>::value_type> out;
  out.reserve(list.size());
  for (unsigned i = 0; i < list.size(); ++i) {
    auto one = f(list[i]);
    if (!one) return tl::unexpected(in_entry(what, i, one.error()));
    out.push_back(std::move(*one));
  }
  return out;
}

}  // namespace

bool is_file_name(std::string_view name) {
  return !name.empty() && name.size() <= rpc::MAX_NAME_BYTES && name != "." && name != ".." &&
         name.find('/') == name.npos && name.find('\0') == name.npos;
}

Result<std::vector<NodeMessage>> parse_nodes(capnp::List<rpc::Node>::Reader list) {
  return parse_list("node", list, rpc::MAX_NODES_IN_BATCH, parse_node);
}

Result<BlockMessages> parse_blocks(capnp::List<rpc::Block>::Reader list) {
  BlockMessages out;
  EPOCHFS_TRY(out.blocks, parse_list("block", list, rpc::MAX_NAMES_IN_BATCH, parse_block));
  size_t total = 0;
  for (const BlockMessage& b : out.blocks) total += b.hole ? 0 : b.length;
  if (total > kMaxDecodedBytes) {
    return fail(fmt::format("blocks of {} bytes in one call are too many", total));
  }
  size_t compressed = 0;
  for (unsigned i = 0; i < list.size(); ++i) {
    if (list[i].getPayload().isLz4()) compressed += out.blocks[i].length;
  }
  out.decoded.reset(compressed ? new char[compressed] : nullptr);
  char* next = out.decoded.get();
  for (unsigned i = 0; i < list.size(); ++i) {
    if (!list[i].getPayload().isLz4()) continue;
    if (auto done = decode_lz4(out.blocks[i], next); !done) {
      return tl::unexpected(in_entry("block", i, done.error()));
    }
    next += out.blocks[i].length;
  }
  return out;
}

Result<std::vector<NameMessage>> parse_names(capnp::List<rpc::Name>::Reader list) {
  return parse_list("name", list, rpc::MAX_NAMES_IN_BATCH,
                    [](rpc::Name::Reader in) -> Result<NameMessage> {
                      NameMessage name{.child = file_of(in.getChild())};
                      EPOCHFS_TRY(name.entry.parent, some_file(in.getParent()));
                      name.entry.name = view(in.getName());
                      if (!is_file_name(name.entry.name)) return fail("it is not a file name");
                      if (!name.child) name.child = {};
                      return name;
                    });
}

Result<std::vector<FileId>> parse_files(capnp::List<rpc::FileId>::Reader list) {
  return parse_list("file", list, rpc::MAX_NAMES_IN_BATCH, some_file);
}

Result<TransferPlan> parse_plan(rpc::Plan::Reader in) {
  TransferPlan plan{.epoch = in.getEpoch(),
                    .base = in.getBase(),
                    .barrier_ns = in.getBarrierTimeNs(),
                    .state_hash = in.getStateHash(),
                    .full = in.getFull(),
                    .walk_since = in.getWalkSince()};
  EPOCHFS_TRY(plan.root, some_file(in.getRoot()));
  if (!plan.full && plan.epoch <= plan.base) {
    return fail(fmt::format("plan: epoch {} does not follow epoch {}", plan.epoch, plan.base));
  }
  return plan;
}

}  // namespace epochfs::replicator
