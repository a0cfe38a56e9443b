// RecordText: how is a record shown to people and to programs? As one line, as one JSON object
// (JournalEntry of schema/control.capnp), or with all fields on several lines.
//
// It opens no journal: the caller resolves paths (names/paths.h). One thread.
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

  // Each appends to `out`, and ends with a newline.
  void line(const ShownRecord& shown, std::string& out);
  void json(const ShownRecord& shown, std::string& out);
  void all(const ShownRecord& shown, std::string& out);

 private:
  std::unique_ptr<JsonLine<rpc::JournalEntry>> json_;
  LocalTime time_;
  Programs programs_;
};

// What the operation was about besides the file: "4096+100", "mode=0644", an xattr's name. May be
// empty.
std::string detail_of(const Record& record);

}  // namespace epochfs::journal
