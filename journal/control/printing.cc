#include "journal/control/printing.h"

#include "journal/base/text.h"

namespace epochfs {

std::string printable(std::string_view message) {
  std::string out;
  for (;;) {
    const size_t end = message.find('\\');
    out += escape(message.substr(0, end));
    if (end == std::string_view::npos) return out;
    out += '\\';
    message.remove_prefix(end + 1);
  }
}

}  // namespace epochfs
