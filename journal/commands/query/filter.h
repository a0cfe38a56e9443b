// Filter: which records does a user ask for? The options that all commands over records
// share, read once, and the tests that they come to. Paths are tested by whoever
// resolves them (paths.h): a record does not hold its own.
#pragma once

#include <bitset>
#include <vector>

#include "journal/commands/names/path_globs.h"
#include "journal/commands/query/log_query.h"
#include "journal/control/command_line.h"

namespace epochfs::journal {

struct EpochRange {
  uint64_t first = 0;
  uint64_t last = UINT64_MAX;

  bool holds(EpochId epoch) const { return value(epoch) >= first && value(epoch) <= last; }
};
// "A..B", "A..", "..B" or "A".
Result<EpochRange> parse_epochs(const std::string& text);

using TypeSet = std::bitset<kLastRecordType + 1>;
// "create,write": those; "!write": all but those. Padding is never in it.
Result<TypeSet> parse_types(const std::string& text);

class RecordFilter {
 public:
  static void add_options(Options& options);
  // roots: absolute paths that a glob may begin with, instead of being relative.
  static Result<RecordFilter> parse(const Parsed& given, const std::vector<std::string>& roots,
                                    uint64_t now_ns);

  // Where such records can be.
  LogBounds bounds() const { return {since_ns_, until_ns_, epochs_.first, epochs_.last}; }
  // All that can be told without operands. Where only they can tell, it says yes.
  bool accepts(const RecordHead& head) const;
  // For those that accepts() lets pass.
  bool accepts_operands(const Record& record) const;
  bool needs_operands(const RecordHead& head) const {
    return !files_.empty() && head.type == RecordType::kRename;
  }
  const PathGlobs& globs() const { return globs_; }

 private:
  struct File {
    uint64_t inode;
    std::optional<uint64_t> birth_ns;

    bool is(const FileId& id) const {
      return id.inode == inode && (!birth_ns || id.birth_ns == *birth_ns);
    }
  };
  static Result<File> parse_file(const std::string& text);
  bool accepts_file(const FileId& id) const;

  uint64_t since_ns_ = 0, until_ns_ = UINT64_MAX;
  EpochRange epochs_;
  TypeSet types_ = TypeSet().set().reset(0);
  std::vector<uint32_t> uids_, pids_;
  std::vector<File> files_;
  PathGlobs globs_;
};

}  // namespace epochfs::journal
