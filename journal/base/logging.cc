#include "journal/base/logging.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "journal/base/mutex.h"
#include "journal/base/unix.h"

namespace epochfs::log {
namespace {

spdlog::level::level_enum level_of(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarning: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(const std::string& process, Level least) {
  auto logger =
      std::make_shared<spdlog::logger>(process, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %n: %v", spdlog::pattern_time_type::utc);
  logger->set_level(level_of(least));
  logger->flush_on(spdlog::level::trace);
  return logger;
}

// A process has one stderr, and so one log.
struct Log {
  std::shared_ptr<spdlog::logger> logger = make_logger("epochfs", Level::kInfo);
  Mutex mutex;
  RateLimit limit EPOCHFS_GUARDED_BY(mutex);
};

Log& the_log() {
  static Log log;
  return log;
}

std::string quoted(std::string_view value) {
  std::string out = escape(value);
  if (!out.empty() && out.find_first_of(" =\"") == out.npos) return out;
  std::string inside;
  for (char c : out) {
    if (c == '"') inside += '\\';
    inside += c;
  }
  return '"' + inside + '"';
}

}  // namespace

void begin(const std::string& process, Level least) {
  the_log().logger = make_logger(process, least);
}

std::string line_of(std::string_view what, Fields fields) {
  std::string line(what);
  for (const Field& field : fields)
    line.append(1, ' ').append(field.key).append(1, '=').append(quoted(field.value));
  return line;
}

void write(Level level, std::string_view what, Fields fields) {
  Log& log = the_log();
  if (!log.logger->should_log(level_of(level))) return;
  std::string line = line_of(what, fields);
  {
    Lock lock(log.mutex);
    auto held_back = log.limit.pass(line, std::chrono::steady_clock::now());
    if (!held_back) return;
    if (*held_back > 0) line += " repeated=" + std::to_string(*held_back);
  }
  log.logger->log(level_of(level), line);
}

std::optional<uint64_t> RateLimit::pass(const std::string& line, Time now) {
  auto at = seen_.find(line);
  if (at != seen_.end() && now - at->second.passed < kSameLine) {
    ++at->second.held_back;
    return std::nullopt;
  }
  const uint64_t held_back = at == seen_.end() ? 0 : at->second.held_back;
  if (at == seen_.end() && seen_.size() >= kMaxLines) {
    std::erase_if(seen_, [&](const auto& entry) { return now - entry.second.passed >= kSameLine; });
    if (seen_.size() >= kMaxLines) seen_.clear();
  }
  seen_[line] = {now, 0};
  return held_back;
}

}  // namespace epochfs::log
