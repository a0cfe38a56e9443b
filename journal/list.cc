// `epochfs journal list`: one line, or one JSON object, for each record.
#include <capnp/compat/json.h>
#include <capnp/message.h>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdio>
#include <limits>

#include "journal/commands.h"
#include "journal/epochs.h"
#include "journal/reader.h"
#include "schema/control.capnp.h"

namespace epochfs {
namespace {

namespace po = boost::program_options;

const CommandHelp kListHelp = {
    "epochfs journal list DIR-or-journal [--json] [--epoch A..B] [--limit N]",
    "Prints the records of a journal, oldest first, one on a line: LSN, time, epoch,\n"
    "operation, inode, uid, pid, offset+length, and last the name, escaped, behind the\n"
    "inode of its directory. With --json one object a line.\n"
    "Exit status: 0 listed, 4 no record matched, 5 damage was stepped over.",
};

struct EpochRange {
  uint64_t first = 0;
  uint64_t last = std::numeric_limits<uint64_t>::max();
};

// "A..B", "A..", "..B" or "A".
Result<EpochRange> parse_epochs(const std::string& text) {
  EpochRange range;
  auto number = [](const std::string& s, uint64_t& out) {
    if (s.empty()) return true;
    if (s.find_first_not_of("0123456789") != std::string::npos || s.size() > 19) return false;
    out = std::stoull(s);
    return true;
  };
  size_t dots = text.find("..");
  std::string first = text.substr(0, dots);
  std::string last = dots == std::string::npos ? first : text.substr(dots + 2);
  if (text.empty() || text == ".." || !number(first, range.first) || !number(last, range.last) ||
      range.first > range.last) {
    return fail("option --epoch: \"" + text + "\" is no range of epochs; write A..B, A.., ..B or A",
                0, ExitStatus::kUsage);
  }
  return range;
}

std::string local_time(uint64_t ns) {
  auto seconds = time_t(ns / 1'000'000'000);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}", fmt::localtime(seconds), ns % 1'000'000'000);
}

bool has_names(const Record& r) { return bool(r.parent); }

void print_line(const Record& r) {
  std::string line = fmt::format("{:>10}  {}  {:>5}  {:<11}  {:>9}  {:>5}  {:>7}", value(r.lsn),
                                 local_time(r.time_ns), value(r.epoch), type_name(r.type),
                                 r.file.inode, r.caller.uid, r.caller.pid);
  if (!r.range.empty()) {
    line += r.range.end == ByteRange::kEndOfFile
                ? fmt::format("  {}+", r.range.begin)
                : fmt::format("  {}+{}", r.range.begin, r.range.length());
  }
  if (has_names(r)) line += fmt::format("  {}/{}", r.parent.inode, escape(r.name));
  if (r.parent2) line += fmt::format(" -> {}/{}", r.parent2.inode, escape(r.name2));
  if (!has_names(r) && !r.name.empty()) line += "  " + escape(r.name);  // an xattr's
  fmt::print("{}\n", line);
}

capnp::Data::Reader data_of(std::string_view s) {
  return {reinterpret_cast<const capnp::byte*>(s.data()), s.size()};
}

void print_json(const capnp::JsonCodec& json, const Record& r) {
  capnp::MallocMessageBuilder message;
  auto e = message.initRoot<rpc::JournalEntry>();
  e.setLsn(value(r.lsn));
  e.setTimeNs(r.time_ns);
  e.setEpoch(value(r.epoch));
  e.setOperation(type_name(r.type));
  e.setInode(r.file.inode);
  e.setBirthNs(r.file.birth_ns);
  e.setUid(r.caller.uid);
  e.setGid(r.caller.gid);
  e.setPid(r.caller.pid);
  e.setOffset(r.range.begin);
  e.setLength(r.range.length());
  e.setMode(r.mode);
  e.setParentInode(r.parent.inode);
  e.setName(escape(r.name));
  if (!is_utf8(r.name)) e.setNameBase64(data_of(r.name));
  e.setNewParentInode(r.parent2.inode);
  e.setNewName(escape(r.name2));
  if (!is_utf8(r.name2)) e.setNewNameBase64(data_of(r.name2));
  fmt::print("{}\n", json.encode(e).cStr());
}

Result<ExitStatus> list(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("json", "one JSON object a line")(
      "epoch", po::value<std::string>()->value_name("A..B"), "only records of these epochs")(
      "limit", po::value<Number>()->value_name("N"), "at most N records")(
      "path", po::value<std::string>()->required(), "");
  EPOCHFS_TRY(auto parsed, parse_command(kListHelp, options, {"path"}, arguments));
  if (parsed.help_shown) return ExitStatus::kOk;
  const auto& values = parsed.values;

  EpochRange epochs;
  if (values.count("epoch")) {
    EPOCHFS_TRY(epochs, parse_epochs(values["epoch"].as<std::string>()));
  }
  uint64_t left = values.count("limit") ? values["limit"].as<Number>().value
                                        : std::numeric_limits<uint64_t>::max();
  EPOCHFS_TRY(std::string path, journal_path_of(values["path"].as<std::string>()));
  EPOCHFS_TRY(Volume volume, Volume::open(path));
  JournalReader reader(volume);
  EPOCHFS_TRY(Lsn from, reader.oldest());
  EPOCHFS_TRY(auto before, read_epoch(volume.dir(), EpochId{epochs.first ? epochs.first - 1 : 0}));
  if (before && before->seal > from) from = before->seal;

  capnp::JsonCodec json;
  json.handleByAnnotation<rpc::JournalEntry>();
  std::vector<Damage> damage;
  bool any = false;
  EPOCHFS_DO(reader.read(from, [&](const Record& r) {
    if (value(r.epoch) > epochs.last || left == 0) return false;
    if (r.type == RecordType::kPadding || value(r.epoch) < epochs.first) return true;
    values.count("json") ? print_json(json, r) : print_line(r);
    any = true;
    --left;
    return true;
  }, &damage));
  for (const Damage& d : damage) {
    fmt::print(stderr, "epochfs: journal {}: {} bytes at LSN {} are no record ({})\n", path,
               d.bytes, value(d.at), decode_error_name(d.error));
  }
  if (!damage.empty()) return ExitStatus::kCorrupt;
  return any ? ExitStatus::kOk : ExitStatus::kNoMatch;
}

}  // namespace

int journal_command(const Arguments& arguments) {
  const std::string usage = "usage: epochfs journal list DIR-or-journal [OPTIONS]";
  if (arguments.empty()) return report({usage, 0, ExitStatus::kUsage});
  Arguments rest(arguments.begin() + 1, arguments.end());
  if (arguments[0] == "list") {
    auto status = list(rest);
    return status ? static_cast<int>(*status) : report(status.error());
  }
  if (arguments[0] == "--help" || arguments[0] == "-h") {
    fmt::print("{}\n\nSubcommands:\n  list   print the records\n", usage);
    return 0;
  }
  return report({"unknown subcommand \"" + arguments[0] + "\"; " + usage, 0, ExitStatus::kUsage});
}

}  // namespace epochfs
