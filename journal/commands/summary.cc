#include "journal/commands/summary.h"

#include <capnp/message.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "journal/commands/json_line.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {
namespace {

// A writer as a key of the table, and the key as a writer.
std::string pack(const Caller& caller) {
  const uint32_t both[2] = {caller.uid, caller.pid};
  return std::string(reinterpret_cast<const char*>(both), sizeof both);
}
Caller unpack(const std::string& key) {
  uint32_t both[2];
  EPOCHFS_CHECK(key.size() == sizeof both);
  std::memcpy(both, key.data(), sizeof both);
  return {.uid = both[0], .pid = both[1]};
}

}  // namespace

Result<SummaryBy> parse_summary(const std::string& text) {
  if (text == "path") return SummaryBy::kPath;
  if (text == "writer") return SummaryBy::kWriter;
  if (text == "type") return SummaryBy::kType;
  return fail("option --summary: \"" + text + "\" is no way to count; write path, writer or type",
              0, ExitStatus::kUsage);
}

std::string Summary::key_of(const ShownRecord& shown) const {
  switch (by_) {
    case SummaryBy::kPath: return shown.path.shown();
    case SummaryBy::kWriter: return pack(shown.record.caller);
    case SummaryBy::kType: return type_name(shown.record.type);
  }
  return "";
}

void Summary::add(const ShownRecord& shown) {
  const Record& r = shown.record;
  // Seals and gaps have neither writer nor path.
  const bool of_nobody = r.type == RecordType::kSeal || r.type == RecordType::kGap;
  if (of_nobody && by_ != SummaryBy::kType) return;
  Row& row = rows_[key_of(shown)];
  ++row.records;
  if (r.type == RecordType::kWrite && r.range.end != ByteRange::kEndOfFile) {
    row.bytes += r.range.length();
  }
  row.first_ns = std::min(row.first_ns, r.time_ns);
  row.last_ns = std::max(row.last_ns, r.time_ns);
}

void Summary::print(bool json, bool reverse, uint64_t limit, std::string& out) const {
  std::vector<const Rows::value_type*> sorted;
  for (const auto& row : rows_) sorted.push_back(&row);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    if (a->second.records != b->second.records) return a->second.records > b->second.records;
    return a->first < b->first;
  });
  if (reverse) std::reverse(sorted.begin(), sorted.end());
  if (sorted.size() > limit) sorted.resize(limit);
  const JsonLine<rpc::JournalSummary> line;
  LocalTime time;
  for (const auto* row : sorted) json ? print_json(*row, line, out) : print_line(*row, time, out);
}

void Summary::print_line(const Rows::value_type& row, LocalTime& time, std::string& out) const {
  fmt::format_to(std::back_inserter(out), "{:>10}  {:>15}  ", row.second.records, row.second.bytes);
  time.append(row.second.last_ns, out);
  if (by_ == SummaryBy::kWriter) {
    const Caller caller = unpack(row.first);
    fmt::format_to(std::back_inserter(out), "  uid {} pid {}\n", caller.uid, caller.pid);
  } else {
    fmt::format_to(std::back_inserter(out), "  {}\n", escape(row.first));
  }
}

void Summary::print_json(const Rows::value_type& row, const JsonLine<rpc::JournalSummary>& json,
                         std::string& out) const {
  capnp::MallocMessageBuilder message;
  auto s = message.initRoot<rpc::JournalSummary>();
  if (by_ == SummaryBy::kPath) {
    s.setPath(escape(row.first));
    if (!is_utf8(row.first)) s.setPathBase64(data_of(row.first));
  } else if (by_ == SummaryBy::kWriter) {
    const Caller caller = unpack(row.first);
    s.setUid(caller.uid);
    s.setPid(caller.pid);
  } else {
    s.setOperation(row.first);
  }
  s.setRecords(row.second.records);
  s.setBytes(row.second.bytes);
  s.setFirstTimeNs(row.second.first_ns);
  s.setLastTimeNs(row.second.last_ns);
  json.append(s, out);
}

}  // namespace epochfs::journal
