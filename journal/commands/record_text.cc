#include "journal/commands/record_text.h"

#include <capnp/message.h>
#include <fmt/format.h>
#include <linux/fs.h>  // RENAME_*

#include <iterator>

#include "journal/commands/json_line.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

const char* gap_reason(uint32_t reason) {
  switch (static_cast<GapReason>(reason)) {
    case GapReason::kMachineStopped: return "machine-stopped";
    case GapReason::kJournalFull: return "journal-full";
    case GapReason::kJournalDamaged: return "journal-damaged";
  }
  return "unknown";
}

std::string rename_flags(uint32_t flags) {
  if (flags & RENAME_EXCHANGE) return "exchange";
  return flags & RENAME_WHITEOUT ? "whiteout" : "";
}

// The path, with a remark if the file had no name any more.
std::string shown_path(const Path& path) {
  return escape(path.shown()) + (path.gone ? " (gone)" : "");
}

std::string offset_length(const ByteRange& range) {
  if (range.end == ByteRange::kEndOfFile) return fmt::format("{}+", range.begin);
  return fmt::format("{}+{}", range.begin, range.length());
}

}  // namespace

std::string detail_of(const Record& r) {
  switch (r.type) {
    case RecordType::kCreate:
    case RecordType::kMakeDirectory:
    case RecordType::kMakeNode:
    case RecordType::kTemporary: return fmt::format("mode={:04o}", r.mode & 07777);
    case RecordType::kRename: return rename_flags(r.mode);
    case RecordType::kWrite:
    case RecordType::kTruncate:
    case RecordType::kAllocate: return offset_length(r.range);
    case RecordType::kSetXattr:
    case RecordType::kRemoveXattr: return escape(r.name);
    case RecordType::kGap: return gap_reason(r.mode);
    default: return "";
  }
}

RecordText::RecordText(Programs programs)
    : json_(std::make_unique<JsonLine<rpc::JournalEntry>>()), programs_(std::move(programs)) {}
RecordText::~RecordText() = default;

void RecordText::line(const ShownRecord& shown, std::string& out) {
  const Record& r = shown.record;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "{:>12}  ", value(r.lsn));
  time_.append(r.time_ns, out);
  const std::string program = escape(programs_.of(r.caller.pid, r.time_ns));
  fmt::format_to(to, "  {:>5}  {:<11}  {:>10}  {:>5}  {:>7}  {:<15}", value(r.epoch),
                 type_name(r.type), r.file.inode, r.caller.uid, r.caller.pid,
                 program.empty() ? "-" : program);
  const std::string detail = detail_of(r);
  if (!r.file && !has_names(r)) {
    out += detail.empty() ? "\n" : "  " + detail + "\n";
    return;
  }
  fmt::format_to(to, "  {:<16}  {}", detail.empty() ? "-" : detail, shown_path(shown.path));
  if (r.parent2) fmt::format_to(to, " -> {}", shown_path(shown.new_path));
  out += '\n';
}

void RecordText::json(const ShownRecord& shown, std::string& out) {
  const Record& r = shown.record;
  capnp::MallocMessageBuilder message;
  auto e = message.initRoot<rpc::JournalEntry>();
  e.setLsn(value(r.lsn));
  e.setTimeNs(r.time_ns);
  e.setTime(utc_time(r.time_ns));
  e.setEpoch(value(r.epoch));
  e.setOperation(type_name(r.type));
  e.setDetail(detail_of(r));
  e.setInode(r.file.inode);
  e.setBirthNs(r.file.birth_ns);
  e.setUid(r.caller.uid);
  e.setGid(r.caller.gid);
  e.setPid(r.caller.pid);
  e.setCommand(escape(programs_.of(r.caller.pid, r.time_ns)));
  e.setOffset(r.range.begin);
  e.setLength(r.range.length());
  e.setToEnd(r.range.end == ByteRange::kEndOfFile);
  e.setMode(r.mode);
  e.setOtherInode(r.other.inode);
  e.setParentInode(r.parent.inode);
  e.setName(escape(r.name));
  if (!is_utf8(r.name)) e.setNameBase64(data_of(r.name));
  e.setNewParentInode(r.parent2.inode);
  e.setNewName(escape(r.name2));
  if (!is_utf8(r.name2)) e.setNewNameBase64(data_of(r.name2));
  if (r.file || has_names(r)) {
    e.setPath(escape(shown.path.shown()));
    if (!is_utf8(shown.path.text)) e.setPathBase64(data_of(shown.path.text));
  }
  e.setPathKnown(shown.path.known && (!r.parent2 || shown.new_path.known));
  e.setPathGone(shown.path.gone);
  if (r.parent2) {
    e.setNewPath(escape(shown.new_path.shown()));
    if (!is_utf8(shown.new_path.text)) e.setNewPathBase64(data_of(shown.new_path.text));
  }
  json_->append(e, out);
}

void RecordText::all(const ShownRecord& shown, std::string& out) {
  const Record& r = shown.record;
  auto row = [&](const char* name, const auto& what) {
    fmt::format_to(std::back_inserter(out), "{:<14}{}\n", name, what);
  };
  std::string time;
  time_.append(r.time_ns, time);
  row("LSN", value(r.lsn));
  row("time", time);
  row("epoch", value(r.epoch));
  row("operation", type_name(r.type));
  if (r.caller != Caller{}) {
    row("caller", fmt::format("uid {} gid {} pid {}", r.caller.uid, r.caller.gid, r.caller.pid));
    const std::string program = escape(programs_.of(r.caller.pid, r.time_ns));
    if (!program.empty()) row("command", program);
  }
  if (r.file) row("file", fmt::format("inode {} born {}", r.file.inode, utc_time(r.file.birth_ns)));
  if (const std::string detail = detail_of(r); !detail.empty()) row("detail", detail);
  if (r.file || has_names(r)) row("path", shown_path(shown.path));
  if (r.parent2) row("new path", shown_path(shown.new_path));
  if (has_names(r)) row("directory", fmt::format("inode {}", r.parent.inode));
  if (r.parent2) row("new directory", fmt::format("inode {}", r.parent2.inode));
  if (r.other) row("in its way", fmt::format("inode {}", r.other.inode));
  row("bytes", encoded_size(r));
}

}  // namespace epochfs::journal
