// RecordText: how is a record shown, to people and to programs? One line, one JSON
// object (schema/control.capnp, JournalEntry), or all of it over several lines.
// Knows no journal: paths come from whoever resolves them.
#pragma once

#include <capnp/compat/json.h>

#include <string>

#include "journal/commands/names/paths.h"
#include "journal/commands/names/programs.h"
#include "journal/commands/query/time_text.h"
#include "schema/control.capnp.h"

namespace epochfs::journal {

struct ShownRecord {
  const Record& record;
  Path path;
  Path new_path;  // of a rename
};
ShownRecord show(const Record& record, PathResolver& paths);

class RecordText {
 public:
  explicit RecordText(Programs programs = Programs());

  // Each appends to out, with a newline.
  void line(const ShownRecord& shown, std::string& out);
  void json(const ShownRecord& shown, std::string& out);
  void all(const ShownRecord& shown, std::string& out);

 private:
  capnp::JsonCodec codec_;
  LocalTime time_;
  Programs programs_;
};

// What there is to say of the operation besides the file: "4096+100", "mode=0644", an
// xattr's name. Empty where there is nothing.
std::string detail_of(const Record& record);

// Text that may be no UTF-8, as two fields: escaped, and the bytes where that is needed.
inline capnp::Data::Reader data_of(std::string_view bytes) {
  return {reinterpret_cast<const capnp::byte*>(bytes.data()), bytes.size()};
}

}  // namespace epochfs::journal
