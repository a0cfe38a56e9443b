// Text: how are bytes that may be no text shown to people? Names of files are bytes.
//
// No I/O; nothing here knows about languages or widths.
#pragma once

#include <string>
#include <string_view>

namespace epochfs {

// The bytes of a name for people, on one line: printable UTF-8 as it is, the rest as \n, \t, \\ or
// \xHH. Different bytes never look the same.
std::string escape(std::string_view bytes);

// Overlong forms, surrogates and code points above U+10FFFF are not UTF-8.
bool is_utf8(std::string_view bytes);

}  // namespace epochfs
