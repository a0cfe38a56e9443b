#include "journal/base/types.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "journal/base/result.h"

namespace epochfs {
namespace {

constexpr bool dash_before(size_t byte) {
  return byte == 4 || byte == 6 || byte == 8 || byte == 10;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string Uuid::to_string() const {
  std::string out;
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (dash_before(i)) out += '-';
    out += fmt::format("{:02x}", bytes[i]);
  }
  return out;
}

bool Uuid::parse(std::string_view text, Uuid& out) {
  if (text.size() != 36) return false;
  size_t at = 0;
  for (size_t i = 0; i < out.bytes.size(); ++i) {
    if (dash_before(i) && text[at++] != '-') return false;
    int high = hex_digit(text[at]), low = hex_digit(text[at + 1]);
    if (high < 0 || low < 0) return false;
    out.bytes[i] = static_cast<uint8_t>(high << 4 | low);
    at += 2;
  }
  return true;
}

Uuid Uuid::random() {
  Uuid id;
  EPOCHFS_CHECK(getrandom(id.bytes.data(), id.bytes.size(), 0) == ssize_t(id.bytes.size()));
  id.bytes[6] = static_cast<uint8_t>((id.bytes[6] & 0x0f) | 0x40);  // version 4, RFC 9562
  id.bytes[8] = static_cast<uint8_t>((id.bytes[8] & 0x3f) | 0x80);
  return id;
}

}  // namespace epochfs
