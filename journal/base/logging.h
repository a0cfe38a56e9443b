// Logging: what happened in a process that runs on its own? The one way to write a log line, for
// the daemon and for mounts. What a command tells the person who typed it is no log line: see
// report() in journal/control/command_line.h.
//
//   log::warning("the peer does not answer", {{"relationship", id}, {"peer", address}});
//
//   2026-11-27T10:54:49.123Z warning serve: the peer does not answer relationship=8f3a peer=b:3712
//
// The text says what happened and never changes; what differs from line to line is in the fields. A
// field's value is escaped, and quoted where it holds a space, so a name from outside cannot forge
// a line.
//
// Lines are limited: see RateLimit. Lines go to stderr, each in one write. Any thread.
#pragma once

#include <chrono>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "journal/base/result.h"

namespace epochfs::log {

enum class Level { kDebug, kInfo, kWarning, kError };

struct Field {
  Field(std::string_view key, std::string_view value) : key(key), value(value) {}
  Field(std::string_view key, const std::string& value) : key(key), value(value) {}
  Field(std::string_view key, const char* value) : key(key), value(value) {}
  Field(std::string_view key, const Error& error) : key(key), value(error.message()) {}
  template <std::integral Number>
  Field(std::string_view key, Number number) : key(key), value(std::to_string(number)) {}

  std::string_view key;
  std::string value;
};
using Fields = std::initializer_list<Field>;

// Names the process in each line ("serve"), and the least level that is written. Before any thread.
void begin(const std::string& process, Level least = Level::kInfo);

void write(Level level, std::string_view what, Fields fields = {});

inline void debug(std::string_view what, Fields f = {}) { write(Level::kDebug, what, f); }
inline void info(std::string_view what, Fields f = {}) { write(Level::kInfo, what, f); }
inline void warning(std::string_view what, Fields f = {}) { write(Level::kWarning, what, f); }
inline void error(std::string_view what, Fields f = {}) { write(Level::kError, what, f); }

// "what key=value key="a value"".
std::string line_of(std::string_view what, Fields fields);

// RateLimit: may this line be written now? The same line passes once a minute; the next one that
// passes says how often it came meanwhile. Not thread-safe.
class RateLimit {
 public:
  using Time = std::chrono::steady_clock::time_point;
  static constexpr std::chrono::seconds kSameLine{60};
  // Bounds the memory: when so many different lines came within a minute, all are forgotten, and
  // pass anew.
  static constexpr size_t kMaxLines = 1024;

  // How often the line was held back since it last passed; nullopt: hold it back now.
  std::optional<uint64_t> pass(const std::string& line, Time now);

 private:
  struct Seen {
    Time passed;
    uint64_t held_back = 0;
  };
  std::unordered_map<std::string, Seen> seen_;
};

}  // namespace epochfs::log
