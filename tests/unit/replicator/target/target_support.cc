#include "tests/unit/replicator/target/target_support.h"

#include <fcntl.h>
#include <lz4.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "journal/preimages/attributes.h"

namespace epochfs::testing {
namespace {

replicator::Timestamp as_sent(OracleTime t) { return {t.seconds, t.nanos}; }

bool same_attributes(const OracleFile& a, const OracleFile& b) {
  return a.attributes == b.attributes && a.xattrs == b.xattrs;
}

// Ranges in which two states of a file differ, in pieces of `grain` bytes. Beyond the end of
// the older one everything differs.
journal::ByteRanges difference(const std::string& a, const std::string& b, uint64_t grain) {
  journal::ByteRanges out;
  for (uint64_t at = 0; at < b.size(); at += grain) {
    uint64_t end = std::min<uint64_t>(at + grain, b.size());
    if (a.size() < end || a.compare(at, end - at, b, at, end - at) != 0) out.add({at, end});
  }
  return out;
}

void set(rpc::Time::Builder out, replicator::Timestamp t) {
  out.setSeconds(t.seconds);
  out.setNanos(uint32_t(t.nanos));
}

}  // namespace

// ---- what a transfer says ----

NodeSpec node_spec(const TreeOracle& tree, FileId id, replicator::Content content,
                   uint64_t version) {
  const OracleFile& f = tree.at(id);
  const OracleAttributes& a = f.attributes;
  NodeSpec spec{.id = id, .links = uint32_t(f.links), .content = content, .version = version};
  spec.file = {.attributes = {.mode = a.mode,
                              .uid = a.uid,
                              .gid = a.gid,
                              .rdev = uint64_t(major(a.rdev)) << 32 | minor(a.rdev),
                              .size = f.is_reg() ? f.data.size() : f.symlink_target.size(),
                              .atime = as_sent(a.atime),
                              .mtime = as_sent(a.mtime),
                              .ctime = as_sent(a.ctime)},
               .xattrs = f.xattrs,
               .symlink_target = f.symlink_target,
               .data = f.data.all()};
  if (content == replicator::Content::kWhole) spec.ranges.add({0, f.data.size()});
  return spec;
}

TransferSpec changes(const TreeOracle& base, const TreeOracle& now, uint64_t grain) {
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
      out.nodes.back().ranges = difference(old->second.data.all(), f.data.all(), grain);
      if (out.nodes.back().ranges.empty()) out.nodes.back().content = replicator::Content::kNone;
    } else if (!same_attributes(f, old->second) || f.children != old->second.children ||
               f.links != old->second.links) {
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

TransferSpec everything(const TreeOracle& now) {
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

std::string compare(const TreeOracle& tree, const std::string& path) {
  std::string out;
  for (const std::string& line : differences(tree.snapshot(), snapshot(path), {.holes = false})) {
    out += line + "\n";
  }
  return out;
}

// ---- messages ----

capnp::Data::Reader data_of(std::string_view s) {
  return {reinterpret_cast<const capnp::byte*>(s.data()), s.size()};
}

void set(rpc::FileId::Builder out, FileId id) { journal::set_file_id(out, id.inode, id.birth_ns); }

void write_node(rpc::Node::Builder out, const NodeSpec& spec) {
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
    xattrs[i].setName(data_of(name));
    xattrs[i++].setValue(data_of(value));
  }
  a.setSymlinkTarget(data_of(spec.file.symlink_target));
  auto content = out.getContent();
  if (spec.content == replicator::Content::kNone) content.setNone();
  if (spec.content == replicator::Content::kWhole) content.setWhole();
  if (spec.content == replicator::Content::kRanges) content.setRanges();
  out.setVersion(spec.version);
  out.setFresh(spec.fresh);
}

void write_block(rpc::Block::Builder out, const BlockSpec& spec) {
  set(out.initId(), spec.id);
  out.setOffset(spec.offset);
  out.setLength(spec.bytes.size());
  if (spec.hole) {
    out.getPayload().setHole();
  } else if (spec.compressed) {
    std::string packed(size_t(LZ4_compressBound(int(spec.bytes.size()))), '\0');
    int size = LZ4_compress_default(spec.bytes.data(), packed.data(), int(spec.bytes.size()),
                                    int(packed.size()));
    out.getPayload().setLz4(data_of({packed.data(), size_t(size)}));
  } else {
    out.getPayload().setRaw(data_of(spec.bytes));
  }
}

void write_name(rpc::Name::Builder out, const replicator::NameMessage& name) {
  set(out.initParent(), name.entry.parent);
  out.setName(data_of(name.entry.name));
  set(out.initChild(), name.child);
}

void write_plan(rpc::Plan::Builder out, const replicator::TransferPlan& plan) {
  out.setEpoch(plan.epoch);
  out.setBase(plan.base);
  out.setBarrierTimeNs(plan.barrier_ns);
  out.setStateHash(plan.state_hash);
  out.setFull(plan.full);
  out.setWalkSince(plan.walk_since);
  set(out.initRoot(), plan.root);
}

std::vector<BlockSpec> blocks_of(const NodeSpec& spec, uint64_t piece, bool holes,
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

// ---- driving a target ----

Result<std::vector<replicator::Need>> send_nodes(replicator::Stage& stage,
                                                 const std::vector<NodeSpec>& nodes) {
  Message<rpc::Node> message(nodes, write_node);
  EPOCHFS_TRY(auto parsed, replicator::parse_nodes(message.reader()));
  return stage.nodes(std::move(parsed));
}

Result<void> send_blocks(replicator::Stage& stage, const std::vector<BlockSpec>& blocks) {
  Message<rpc::Block> message(blocks, write_block);
  EPOCHFS_TRY(auto parsed, replicator::parse_blocks(message.reader()));
  return stage.blocks(parsed.blocks);
}

Result<void> send_names(replicator::Stage& stage,
                        const std::vector<replicator::NameMessage>& names) {
  Message<rpc::Name> message(names, write_name);
  EPOCHFS_TRY(auto parsed, replicator::parse_names(message.reader()));
  return stage.names(parsed);
}

Result<void> send_listed(replicator::Stage& stage, const std::vector<FileId>& directories) {
  Message<rpc::FileId> message(directories,
                               [](rpc::FileId::Builder out, FileId id) { set(out, id); });
  EPOCHFS_TRY(auto parsed, replicator::parse_files(message.reader()));
  return stage.listed(parsed);
}

Result<void> send_forgotten(replicator::Stage& stage, const std::vector<FileId>& files) {
  Message<rpc::FileId> message(files, [](rpc::FileId::Builder out, FileId id) { set(out, id); });
  EPOCHFS_TRY(auto parsed, replicator::parse_files(message.reader()));
  return stage.forget(parsed);
}

Result<Sent> send_files(replicator::Stage& stage, const std::vector<NodeSpec>& nodes,
                        const SendOptions& o) {
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

Result<Sent> send_all(replicator::Stage& stage, const TransferSpec& spec, const SendOptions& o) {
  EPOCHFS_TRY(Sent sent, send_files(stage, spec.nodes, o));
  for (size_t at = 0; at < spec.names.size() && sent.complete; at += 1000) {
    EPOCHFS_DO(
        send_names(stage, {spec.names.begin() + long(at),
                           spec.names.begin() + long(std::min(at + 1000, spec.names.size()))}));
  }
  if (spec.plan.full && sent.complete) EPOCHFS_DO(send_listed(stage, spec.listed));
  return sent;
}

replicator::Outcome<Sent> transfer(replicator::Target& target, const TransferSpec& spec,
                                   const SendOptions& o) {
  EPOCHFS_DO(target.begin(spec.plan));
  EPOCHFS_TRY(Sent sent, send_all(*target.stage(), spec, o));
  if (sent.complete) EPOCHFS_DO(target.commit(spec.plan));
  return sent;
}

Result<void> LazyStorage::sync(const char* label, int fd) {
  if (::fcntl(fd, F_GETFL) & O_PATH) return fail(label, EBADF);
  return call(label);
}

replicator::TargetOptions target_options(const TemporaryDirectory& in) {
  replicator::TargetOptions options;
  options.relationship = kRelationship;
  options.lineage.bytes.fill(7);
  options.directory = in / "target";
  options.index_map_bytes = size_t(1) << 30;
  return options;
}

}  // namespace epochfs::testing
