#include "journal/base/text.h"

#include <fmt/format.h>
#include <utf8.h>

#include <cstdint>
#include <iterator>

namespace epochfs {
namespace {

// C0, delete and C1.
bool is_control(uint32_t c) { return c < 0x20 || (c >= 0x7f && c < 0xa0); }

void append_hex(std::string_view bytes, std::string& out) {
  for (char byte : bytes) {
    fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(byte));
  }
}

// `bytes` are the UTF-8 of the code point.
void append_escaped(uint32_t code_point, std::string_view bytes, std::string& out) {
  switch (code_point) {
    case '\\': out += "\\\\"; break;
    case '\n': out += "\\n"; break;
    case '\t': out += "\\t"; break;
    default: is_control(code_point) ? append_hex(bytes, out) : void(out += bytes);
  }
}

}  // namespace

bool is_utf8(std::string_view bytes) { return utf8::is_valid(bytes.begin(), bytes.end()); }

std::string escape(std::string_view bytes) {
  std::string out;
  for (const char *at = bytes.data(), *end = at + bytes.size(); at != end;) {
    const char* const valid_end = utf8::find_invalid(at, end);
    while (at != valid_end) {
      const char* const begin = at;
      const uint32_t code_point = utf8::unchecked::next(at);
      append_escaped(code_point, {begin, at}, out);
    }
    if (at != end) append_hex({at++, 1}, out);
  }
  return out;
}

}  // namespace epochfs
