// RecordText: how is a record shown, to people and to programs? One line, one JSON
// object (schema/control.capnp, JournalEntry), or all of it over several lines.
// Knows no journal: paths come from whoever resolves them.
#pragma once

#include <memory>
#include <string>

#include "journal/commands/names/paths.h"
#include "journal/commands/names/programs.h"
#include "journal/commands/query/time_text.h"

namespace epochfs::rpc {
struct JournalEntry;
}

namespace epochfs::journal {

template <typename Message>
class JsonLine;

class RecordText {
 public:
  explicit RecordText(Programs programs = Programs());
  ~RecordText();

  // Each appends to out, with a newline.
  void line(const ShownRecord& shown, std::string& out);
  void json(const ShownRecord& shown, std::string& out);
  void all(const ShownRecord& shown, std::string& out);

 private:
  std::unique_ptr<JsonLine<rpc::JournalEntry>> json_;
  LocalTime time_;
  Programs programs_;
};

// What there is to say of the operation besides the file: "4096+100", "mode=0644", an
// xattr's name. Empty where there is nothing.
std::string detail_of(const Record& record);

}  // namespace epochfs::journal
