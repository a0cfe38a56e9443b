// Records: how do tests make records of every type with any operands, and how do they get
// damaged ones past the checksum?
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "journal/log/record.h"
#include "tests/support/random.h"

namespace epochfs::testing {

// Which operands a type has: the table in FORMAT.md, written down a second time.
struct OperandsOf {
  bool handle = false, parent = false, parent2 = false, other = false, range = false, mode = false,
       xattr_name = false;
};
OperandsOf operands_of(journal::RecordType type);

// A record, and the bytes that its views point into.
struct OwnedRecord {
  journal::Record record;
  std::string name, name2;
};
void fill_random(journal::RecordType type, Random& random, OwnedRecord& out);

std::vector<std::byte> encoded(const journal::Record& record);

// Writes the checksum that FORMAT.md asks for: of everything behind the field, seeded with
// the eight bytes before it.
void reseal(std::span<std::byte> record);

}  // namespace epochfs::testing
