// Summary: which path, writer or operation do most records belong to? Counts the records that a
// listing would have shown.
#pragma once

#include <optional>
#include <unordered_map>

#include "journal/commands/record_text.h"

namespace epochfs::rpc {
struct JournalSummary;
}

namespace epochfs::journal {

template <typename Message>
class JsonLine;

enum class SummaryBy { kPath, kWriter, kType };
Result<SummaryBy> parse_summary(const std::string& text);

class Summary {
 public:
  explicit Summary(SummaryBy by) : by_(by) {}

  void add(const ShownRecord& shown);
  // Prints at most `limit` rows, the largest counts first; with `reverse`, the smallest.
  void print(bool json, bool reverse, uint64_t limit, std::string& out) const;
  bool empty() const { return rows_.empty(); }

 private:
  struct Row {
    uint64_t records = 0, bytes = 0, first_ns = UINT64_MAX, last_ns = 0;
  };
  using Rows = std::unordered_map<std::string, Row>;
  std::string key_of(const ShownRecord& shown) const;
  void print_line(const Rows::value_type& row, LocalTime& time, std::string& out) const;
  void print_json(const Rows::value_type& row, const JsonLine<rpc::JournalSummary>& json,
                  std::string& out) const;

  SummaryBy by_;
  Rows rows_;
};

}  // namespace epochfs::journal
