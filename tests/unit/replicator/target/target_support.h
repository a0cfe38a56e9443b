// TargetSupport: what do the tests of the replicator's target share? The transfers that
// follow from two states of a model, and a driver that feeds them to a Target.
#pragma once

#include <capnp/message.h>
#include <lz4.h>

#include "replicator/target/target.h"
#include "tests/support/random.h"
#include "tests/support/temporary_directory.h"
#include "tests/unit/replicator/target/target_model.h"

namespace epochfs::testing {

// ---- what a transfer says ----

struct NodeSpec {
  FileId id;
  ModelFile file;
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

inline NodeSpec node_spec(const Model& m, FileId id, replicator::Content content,
                          uint64_t version) {
  const ModelFile& f = m.files.at(id);
  NodeSpec spec{
      .id = id, .file = f, .links = uint32_t(m.links(id)), .content = content, .version = version};
  spec.file.attributes.size = f.is_reg() ? f.data.size() : f.symlink_target.size();
  if (content == replicator::Content::kWhole) spec.ranges.add({0, f.data.size()});
  return spec;
}

inline bool same_attributes(const ModelFile& a, const ModelFile& b) {
  return a.attributes == b.attributes && a.xattrs == b.xattrs;
}

// Ranges in which two states of a file differ, in pieces of `grain` bytes; beyond
// the end of the older one all.
inline journal::ByteRanges difference(const std::string& a, const std::string& b, uint64_t grain) {
  journal::ByteRanges out;
  for (uint64_t at = 0; at < b.size(); at += grain) {
    uint64_t end = std::min<uint64_t>(at + grain, b.size());
    if (a.size() < end || a.compare(at, end - at, b, at, end - at) != 0) out.add({at, end});
  }
  return out;
}

// The change set between two states, as the journal's fold would have it.
inline TransferSpec changes(const Model& base, const Model& now, uint64_t grain = 512) {
  TransferSpec out;
  out.plan.root = now.root;
  for (const auto& [id, f] : now.files) {
    auto old = base.files.find(id);
    const bool fresh = old == base.files.end() || old->second.born != f.born;
    if (fresh) {
      out.nodes.push_back(
          node_spec(now, id, f.is_reg() ? replicator::Content::kWhole : replicator::Content::kNone,
                    f.version));
      out.nodes.back().fresh = true;
    } else if (f.is_reg() && f.version != old->second.version) {
      out.nodes.push_back(node_spec(now, id, replicator::Content::kRanges, f.version));
      out.nodes.back().ranges = difference(old->second.data, f.data, grain);
      if (out.nodes.back().ranges.empty()) out.nodes.back().content = replicator::Content::kNone;
    } else if (!same_attributes(f, old->second) || f.children != old->second.children ||
               now.links(id) != base.links(id)) {
      out.nodes.push_back(node_spec(now, id, replicator::Content::kNone, 0));
    }
  }
  std::map<replicator::EntryName, std::pair<FileId, FileId>> names;
  for (const auto& [id, f] : base.files) {
    for (const auto& [name, child] : f.children) names[{id, name}].first = child;
  }
  for (const auto& [id, f] : now.files) {
    for (const auto& [name, child] : f.children) names[{id, name}].second = child;
  }
  for (const auto& [entry, change] : names) {
    auto file = now.files.find(change.second);
    auto old = base.files.find(change.second);
    bool another =
        file != now.files.end() && old != base.files.end() && file->second.born != old->second.born;
    if (change.first != change.second || another) out.names.push_back({entry, change.second});
  }
  return out;
}

// All that there is, as a walk would have it.
inline TransferSpec everything(const Model& now) {
  TransferSpec out;
  out.plan.root = now.root;
  out.plan.full = true;
  for (const auto& [id, f] : now.files) {
    out.nodes.push_back(node_spec(
        now, id, f.is_reg() ? replicator::Content::kWhole : replicator::Content::kNone, 0));
    if (f.is_dir()) out.listed.push_back(id);
    for (const auto& [name, child] : f.children) out.names.push_back({{id, name}, child});
  }
  return out;
}

// ---- messages ----

inline capnp::Data::Reader bytes_of(std::string_view s) {
  return {reinterpret_cast<const capnp::byte*>(s.data()), s.size()};
}
inline void set(rpc::FileId::Builder out, FileId id) {
  journal::set_file_id(out, id.inode, id.birth_ns);
}
inline void set(rpc::Time::Builder out, replicator::Timestamp t) {
  out.setSeconds(t.seconds);
  out.setNanos(uint32_t(t.nanos));
}

inline void write_node(rpc::Node::Builder out, const NodeSpec& spec) {
  set(out.initId(), spec.id);
  auto a = out.initAttributes();
  const replicator::FixedAttributes& from = spec.file.attributes;
  a.setMode(from.mode);
  a.setUid(from.uid);
  a.setGid(from.gid);
  a.setRdev(from.rdev);
  a.setLinks(spec.links);
  a.setSize(from.size);
  set(a.initAtime(), from.atime);
  set(a.initMtime(), from.mtime);
  set(a.initCtime(), from.ctime);
  auto xattrs = a.initXattrs(unsigned(spec.file.xattrs.size()));
  unsigned i = 0;
  for (const auto& [name, value] : spec.file.xattrs) {
    xattrs[i].setName(bytes_of(name));
    xattrs[i++].setValue(bytes_of(value));
  }
  a.setSymlinkTarget(bytes_of(spec.file.symlink_target));
  auto content = out.getContent();
  if (spec.content == replicator::Content::kNone) content.setNone();
  if (spec.content == replicator::Content::kWhole) content.setWhole();
  if (spec.content == replicator::Content::kRanges) content.setRanges();
  out.setVersion(spec.version);
  out.setFresh(spec.fresh);
}

struct BlockSpec {
  FileId id;
  uint64_t offset = 0;
  std::string bytes;
  bool hole = false;
  bool compressed = false;
};

inline void write_block(rpc::Block::Builder out, const BlockSpec& spec) {
  set(out.initId(), spec.id);
  out.setOffset(spec.offset);
  out.setLength(spec.bytes.size());
  if (spec.hole) {
    out.getPayload().setHole();
  } else if (spec.compressed) {
    std::string packed(size_t(LZ4_compressBound(int(spec.bytes.size()))), '\0');
    int size = LZ4_compress_default(spec.bytes.data(), packed.data(), int(spec.bytes.size()),
                                    int(packed.size()));
    out.getPayload().setLz4(bytes_of({packed.data(), size_t(size)}));
  } else {
    out.getPayload().setRaw(bytes_of(spec.bytes));
  }
}

inline void write_name(rpc::Name::Builder out, const replicator::NameMessage& name) {
  set(out.initParent(), name.entry.parent);
  out.setName(bytes_of(name.entry.name));
  set(out.initChild(), name.child);
}

inline void write_plan(rpc::Plan::Builder out, const replicator::TransferPlan& plan) {
  out.setEpoch(plan.epoch);
  out.setBase(plan.base);
  out.setBarrierTimeNs(plan.barrier_ns);
  out.setStateHash(plan.state_hash);
  out.setFull(plan.full);
  out.setWalkSince(plan.walk_since);
  set(out.initRoot(), plan.root);
}

// Blocks of one file, in pieces; runs of zeros become holes where `holes`.
inline std::vector<BlockSpec> blocks_of(const NodeSpec& spec, uint64_t piece, bool holes,
                                        bool compressed) {
  std::vector<BlockSpec> out;
  spec.ranges.for_each([&](ByteRange r) {
    for (uint64_t at = r.begin; at < r.end; at += piece) {
      BlockSpec b{.id = spec.id,
                  .offset = at,
                  .bytes = spec.file.data.substr(at, std::min(piece, r.end - at))};
      b.hole = holes && b.bytes.find_first_not_of('\0') == std::string::npos;
      b.compressed = compressed && !b.hole;
      out.push_back(std::move(b));
    }
  });
  return out;
}

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
inline Result<std::vector<replicator::Need>> send_nodes(replicator::Stage& stage,
                                                        const std::vector<NodeSpec>& nodes) {
  Message<rpc::Node> message(nodes, write_node);
  EPOCHFS_TRY(auto parsed, replicator::parse_nodes(message.reader()));
  return stage.nodes(std::move(parsed));
}
inline Result<void> send_blocks(replicator::Stage& stage, const std::vector<BlockSpec>& blocks) {
  Message<rpc::Block> message(blocks, write_block);
  EPOCHFS_TRY(auto parsed, replicator::parse_blocks(message.reader()));
  return stage.blocks(parsed.blocks);
}
inline Result<void> send_names(replicator::Stage& stage,
                               const std::vector<replicator::NameMessage>& names) {
  Message<rpc::Name> message(names, write_name);
  EPOCHFS_TRY(auto parsed, replicator::parse_names(message.reader()));
  return stage.names(parsed);
}
inline Result<void> send_listed(replicator::Stage& stage, const std::vector<FileId>& directories) {
  Message<rpc::FileId> message(directories,
                               [](rpc::FileId::Builder out, FileId id) { set(out, id); });
  EPOCHFS_TRY(auto parsed, replicator::parse_files(message.reader()));
  return stage.listed(parsed);
}
inline Result<void> send_forgotten(replicator::Stage& stage, const std::vector<FileId>& files) {
  Message<rpc::FileId> message(files, [](rpc::FileId::Builder out, FileId id) { set(out, id); });
  EPOCHFS_TRY(auto parsed, replicator::parse_files(message.reader()));
  return stage.forget(parsed);
}

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

// All of a transfer but its commit, as a well-behaved source would send it.
inline Result<Sent> send_files(replicator::Stage& stage, const std::vector<NodeSpec>& nodes,
                               const SendOptions& o = {}) {
  Sent sent;
  for (size_t at = 0; at < nodes.size(); at += o.batch) {
    std::vector<NodeSpec> batch(nodes.begin() + long(at),
                                nodes.begin() + long(std::min(at + o.batch, nodes.size())));
    EPOCHFS_TRY(auto needs, send_nodes(stage, batch));
    std::vector<uint64_t> resume_at(batch.size(), 0);
    for (const replicator::Need& n : needs) resume_at.at(n.index) = n.resume_at;
    for (size_t i = 0; i < batch.size(); ++i) {
      std::vector<BlockSpec> wanted;
      for (BlockSpec& b : blocks_of(batch[i], o.piece, o.holes, o.compressed)) {
        if (b.offset + b.bytes.size() <= resume_at[i]) continue;
        wanted.push_back(std::move(b));
      }
      for (size_t first = 0; first < wanted.size(); first += o.batch) {
        std::vector<BlockSpec> some(
            wanted.begin() + long(first),
            wanted.begin() + long(std::min(first + o.batch, wanted.size())));
        for (const BlockSpec& b : some) sent.bytes += b.hole ? 0 : b.bytes.size();
        sent.blocks += some.size();
        EPOCHFS_DO(send_blocks(stage, some));
        if (sent.blocks >= o.stop_after_blocks) {
          sent.complete = false;
          return sent;
        }
      }
    }
  }
  return sent;
}

inline Result<Sent> send_all(replicator::Stage& stage, const TransferSpec& spec,
                             const SendOptions& o = {}) {
  EPOCHFS_TRY(Sent sent, send_files(stage, spec.nodes, o));
  for (size_t at = 0; at < spec.names.size() && sent.complete; at += 1000) {
    EPOCHFS_DO(
        send_names(stage, {spec.names.begin() + long(at),
                           spec.names.begin() + long(std::min(at + 1000, spec.names.size()))}));
  }
  if (spec.plan.full && sent.complete) EPOCHFS_DO(send_listed(stage, spec.listed));
  return sent;
}

inline replicator::Outcome<Sent> transfer(replicator::Target& target, const TransferSpec& spec,
                                          const SendOptions& o = {}) {
  EPOCHFS_DO(target.begin(spec.plan));
  EPOCHFS_TRY(Sent sent, send_all(*target.stage(), spec, o));
  if (sent.complete) EPOCHFS_DO(target.commit(spec.plan));
  return sent;
}

template <typename T>
std::string reason(const replicator::Outcome<T>& outcome) {
  return outcome ? "ok" : outcome.error().error.message();
}

#define ASSERT_DONE(expression)                                                \
  do {                                                                         \
    auto&& outcome_ = (expression);                                            \
    ASSERT_TRUE(outcome_.has_value()) << ::epochfs::testing::reason(outcome_); \
  } while (0)

// Storage that syncs nothing, what the tests do in plenty, but what could be synced.
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
  Result<void> sync(const char* label, int fd) {
    if (::fcntl(fd, F_GETFL) & O_PATH) return fail(label, EBADF);
    return call(label);
  }
  virtual Result<void> call(const char*) { return {}; }
};

constexpr const char* kRelationship = "0123456789ab";

inline replicator::TargetOptions target_options(const TemporaryDirectory& in) {
  replicator::TargetOptions options;
  options.relationship = kRelationship;
  options.lineage.bytes.fill(7);
  options.directory = in / "target";
  options.index_map_bytes = size_t(1) << 30;
  return options;
}

}  // namespace epochfs::testing
