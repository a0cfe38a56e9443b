#include "journal/commands/query/filter.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/algorithm/string.hpp>
#include <charconv>

#include "journal/commands/query/time_text.h"

namespace epochfs::journal {
namespace {

tl::unexpected<Error> usage(std::string what) {
  return fail(std::move(what), 0, ExitStatus::kUsage);
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t n = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (text.empty() || code != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  boost::split(parts, text, boost::is_any_of(","));
  return parts;
}

std::string type_names() {
  std::string out;
  for (uint16_t i = 1; i <= kLastRecordType; ++i) {
    out += std::string(i > 1 ? ", " : "") + type_name(RecordType(i));
  }
  return out;
}

// The numbers of a repeatable option, which may also be separated by commas.
Result<std::vector<uint32_t>> ids(const Parsed& given, const char* option) {
  std::vector<uint32_t> out;
  for (const std::string& text : given.texts(option)) {
    for (const std::string& part : split(text)) {
      auto n = number(part);
      if (!n || *n > UINT32_MAX) {
        return usage(
            fmt::format("option --{}: \"{}\" is no number; write one, or several with "
                        "commas between them",
                        option, part));
      }
      out.push_back(uint32_t(*n));
    }
  }
  return out;
}

bool one_of(const std::vector<uint32_t>& wanted, uint32_t id) {
  return wanted.empty() || std::find(wanted.begin(), wanted.end(), id) != wanted.end();
}

}  // namespace

Result<EpochRange> parse_epochs(const std::string& text) {
  EpochRange range;
  const size_t dots = text.find("..");
  const std::string first = text.substr(0, dots);
  const std::string last = dots == std::string::npos ? first : text.substr(dots + 2);
  auto read = [](const std::string& part, uint64_t& out) {
    if (part.empty()) return true;
    auto n = number(part);
    if (n) out = *n;
    return n.has_value();
  };
  if (text.empty() || text == ".." || !read(first, range.first) || !read(last, range.last) ||
      range.first > range.last) {
    return usage("option --epoch: \"" + text +
                 "\" is no range of epochs; write A..B, A.., ..B or A");
  }
  return range;
}

Result<TypeSet> parse_types(const std::string& text) {
  TypeSet wanted, unwanted;
  for (std::string name : split(text)) {
    const bool excluded = !name.empty() && name[0] == '!';
    if (excluded) name.erase(0, 1);
    auto type = type_by_name(name);
    if (!type || *type == RecordType::kPadding) {
      return usage(
          fmt::format("option --type: \"{}\" is no operation; there are {}", name, type_names()));
    }
    (excluded ? unwanted : wanted).set(size_t(*type));
  }
  if (wanted.none()) wanted.set().reset(size_t(RecordType::kPadding));
  if ((wanted & ~unwanted).none()) {
    return usage(
        fmt::format("option --type: \"{}\" leaves no operation; name one without !", text));
  }
  return wanted & ~unwanted;
}

void RecordFilter::add_options(Options& options) {
  options
      .text("since", "TIME",
            "not older: 2026-11-23, 2026-11-23T14:05:00Z, @1795442700, 10m, 2h, 3d")
      .text("until", "TIME", "not newer")
      .text("epoch", "A..B", "of these epochs; also A.., ..B and A")
      .text("type", "LIST", "these operations: create,write; or all but these: '!write'")
      .texts("path", "GLOB", "of files whose path matches, with all below; * matches / too")
      .texts("uid", "UID", "by these users")
      .texts("pid", "PID", "by these processes")
      .texts("file", "INODE", "of these files; also INODE:BIRTH, in nanoseconds");
}

Result<RecordFilter::File> RecordFilter::parse_file(const std::string& text) {
  const size_t colon = text.find(':');
  auto inode = number(std::string_view(text).substr(0, colon));
  std::optional<uint64_t> birth;
  if (colon != std::string::npos) birth = number(std::string_view(text).substr(colon + 1));
  if (!inode || (colon != std::string::npos && !birth)) {
    return usage("option --file: \"" + text + "\" is no file; write its INODE, or INODE:BIRTH");
  }
  return File{*inode, birth};
}

Result<RecordFilter> RecordFilter::parse(const Parsed& given, const std::vector<std::string>& roots,
                                         uint64_t now_ns) {
  RecordFilter f;
  if (given.has("since")) {
    EPOCHFS_TRY(f.since_ns_, parse_time("--since", given.text("since"), now_ns));
  }
  if (given.has("until")) {
    EPOCHFS_TRY(f.until_ns_, parse_time("--until", given.text("until"), now_ns));
  }
  if (f.since_ns_ > f.until_ns_) {
    return usage("options --since and --until: the first is the later one; exchange them");
  }
  if (given.has("epoch")) {
    EPOCHFS_TRY(f.epochs_, parse_epochs(given.text("epoch")));
  }
  if (given.has("type")) {
    EPOCHFS_TRY(f.types_, parse_types(given.text("type")));
  }
  EPOCHFS_TRY(f.uids_, ids(given, "uid"));
  EPOCHFS_TRY(f.pids_, ids(given, "pid"));
  for (const std::string& file : given.texts("file")) {
    EPOCHFS_TRY(File parsed, parse_file(file));
    f.files_.push_back(parsed);
  }
  for (std::string glob : given.texts("path")) {
    if (glob.empty()) return usage("option --path: it is empty; write a glob such as 'logs/*'");
    for (const std::string& root : roots) {
      if (glob == root || glob.starts_with(root + "/")) {
        glob.erase(0, root.size());
        break;
      }
    }
    f.globs_.add(std::move(glob));
  }
  return f;
}

bool RecordFilter::accepts_file(const FileId& id) const {
  return files_.empty() ||
         std::any_of(files_.begin(), files_.end(), [&](const File& file) { return file.is(id); });
}

bool RecordFilter::accepts(const RecordHead& head) const {
  return types_[size_t(head.type)] && head.time_ns >= since_ns_ && head.time_ns <= until_ns_ &&
         epochs_.holds(head.epoch) && one_of(uids_, head.caller.uid) &&
         one_of(pids_, head.caller.pid) && (accepts_file(head.file) || needs_operands(head));
}

bool RecordFilter::accepts_operands(const Record& r) const {
  return accepts_file(r.file) || (r.other && accepts_file(r.other));
}

}  // namespace epochfs::journal
