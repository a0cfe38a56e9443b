// Filter: which records does a user ask for? Holds the options that all commands over records
// share, and the tests that follow from them. It does not test paths, since a record does not hold
// its own: PathResolver does (names/paths.h).
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
// "create,write": these types. "!write": all other types. Padding is never included.
Result<TypeSet> parse_types(const std::string& text);

class RecordFilter {
 public:
  // roots: absolute paths of the volume's root. A glob that begins with one of them is taken as
  // relative to it. now_ns: the moment from which "10m" counts back.
  static void add_options(Options& options);
  static Result<RecordFilter> parse(const Parsed& given, const std::vector<std::string>& roots,
                                    uint64_t now_ns);

  // The part of the log in which such records can be.
  LogBounds bounds() const { return {since_ns_, until_ns_, epochs_.first, epochs_.last}; }
  // Everything that can be decided without operands. True if only operands can decide.
  bool accepts(const RecordHead& head) const;
  // For records that accepts() has let pass.
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
