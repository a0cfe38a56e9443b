#include "fs/base/mount_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <sstream>

namespace epochfs::fs {
namespace {

enum class Meaning {
  kNothing,
  kSuid,
  kNoSuid,
  kDev,
  kNoDev,
  kExec,
  kNoExec,
  kUser,
  kRefused,
  kWriteback,
  kWriteThrough,
  kWakeupAdaptive,
  kWakeupAlways,
  kWakeupNever,
  kUring,
  kDevice,
  kDegrade,
  kBlock,
};

struct Row {
  const char* option;
  Meaning meaning;
  const char* why = "";
};

constexpr Row kRows[] = {
    {"writeback", Meaning::kWriteback},
    {"writethrough", Meaning::kWriteThrough},
    {"wakeup=adaptive", Meaning::kWakeupAdaptive},
    {"wakeup=always", Meaning::kWakeupAlways},
    {"wakeup=never", Meaning::kWakeupNever},
    {"transport=io_uring", Meaning::kUring},
    {"transport=device", Meaning::kDevice},
    {"when-full=degrade", Meaning::kDegrade},
    {"when-full=block", Meaning::kBlock},
    {"suid", Meaning::kSuid},
    {"nosuid", Meaning::kNoSuid},
    {"dev", Meaning::kDev},
    {"nodev", Meaning::kNoDev},
    {"exec", Meaning::kExec},
    {"noexec", Meaning::kNoExec},
    // As in mount(8), they imply noexec, nosuid and nodev unless a later option says otherwise.
    {"user", Meaning::kUser},
    {"users", Meaning::kUser},
    {"owner", Meaning::kUser},
    {"group", Meaning::kUser},
    {"ro", Meaning::kRefused, "a read-only mount has nothing to replicate; use a bind mount"},
    {"remount", Meaning::kRefused, "unmount and mount again"},
    {"sync", Meaning::kRefused, "write with O_SYNC where it matters"},
    {"dirsync", Meaning::kRefused, "use fsync on the directory where it matters"},
    // These are for mount(8), fstab and systemd, or say what this file system does anyway.
    {"rw", Meaning::kNothing},
    {"defaults", Meaning::kNothing},
    {"auto", Meaning::kNothing},
    {"noauto", Meaning::kNothing},
    {"nouser", Meaning::kNothing},
    {"nofail", Meaning::kNothing},
    {"_netdev", Meaning::kNothing},
    {"async", Meaning::kNothing},
    {"silent", Meaning::kNothing},
    {"loud", Meaning::kNothing},
    {"atime", Meaning::kNothing},  // the mount of the backing directory decides on access times
    {"noatime", Meaning::kNothing},
    {"diratime", Meaning::kNothing},
    {"nodiratime", Meaning::kNothing},
    {"relatime", Meaning::kNothing},
    {"norelatime", Meaning::kNothing},
    {"strictatime", Meaning::kNothing},
    {"nostrictatime", Meaning::kNothing},
    {"lazytime", Meaning::kNothing},
    {"nolazytime", Meaning::kNothing},
    {"allow_other", Meaning::kNothing},
    {"default_permissions", Meaning::kNothing},
};

bool is_comment(const std::string& option) {
  return option.starts_with("x-") || option.starts_with("X-") || option.starts_with("comment=") ||
         option == "comment" || option.starts_with("user=");
}

struct Unit {
  char letter;
  uint64_t factor;
};
constexpr uint64_t kSecond = 1'000'000'000;
constexpr Unit kSizes[] = {{'K', 1 << 10}, {'M', 1 << 20}, {'G', 1 << 30}, {'T', 1ull << 40}};
constexpr Unit kTimes[] = {{'s', kSecond},
                           {'m', 60 * kSecond},
                           {'h', 3600 * kSecond},
                           {'d', 86'400 * kSecond},
                           {'w', 604'800 * kSecond}};

// Digits and one unit. 0 needs no unit.
template <size_t n>
std::optional<uint64_t> parse_amount(std::string_view text, const Unit (&units)[n]) {
  uint64_t number = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view rest(end, size_t(text.data() + text.size() - end));
  if (code != std::errc()) return std::nullopt;
  if (rest.empty() && number == 0) return 0;
  for (const Unit& unit : units) {
    uint64_t product = 0;
    if (rest.size() == 1 && rest[0] == unit.letter &&
        !__builtin_mul_overflow(number, unit.factor, &product)) {
      return product;
    }
  }
  return std::nullopt;
}

// Takes "name=amount". False: it is another kind of option.
Result<bool> take_amount(const std::string& option, HousekeepingOptions& out) {
  auto refused = [&](const char* example) {
    return fail(fmt::format("mount option {}: no amount such as {}", option, example), 0,
                ExitStatus::kUsage);
  };
  const size_t equals = option.find('=');
  if (equals == std::string::npos) return false;
  const std::string_view name = std::string_view(option).substr(0, equals);
  const std::string_view text = std::string_view(option).substr(equals + 1);
  if (name == "journal-quota" || name == "journal-keep") {
    auto bytes = parse_amount(text, kSizes);
    if (!bytes) return refused("500M, 20G or 0");
    (name == "journal-quota" ? out.quota_bytes : out.keep.bytes) = *bytes;
    return true;
  }
  if (name == "journal-keep-for") {
    auto ns = parse_amount(text, kTimes);
    if (!ns) return refused("12h, 30d or 0");
    out.keep.age_ns = *ns;
    return true;
  }
  return false;
}

Result<void> take(const std::string& option, MountOptions& out) {
  if (option.empty() || is_comment(option)) return {};
  EPOCHFS_TRY(bool taken, take_amount(option, out.housekeeping));
  if (taken) return {};
  auto row = std::find_if(std::begin(kRows), std::end(kRows),
                          [&](const Row& r) { return option == r.option; });
  if (row == std::end(kRows)) {
    return fail(fmt::format("unknown mount option: {}; see epochfs mount --help", option), 0,
                ExitStatus::kUsage);
  }
  switch (row->meaning) {
    case Meaning::kNothing: break;
    case Meaning::kSuid: out.suid = true; break;
    case Meaning::kNoSuid: out.suid = false; break;
    case Meaning::kDev: out.dev = true; break;
    case Meaning::kNoDev: out.dev = false; break;
    case Meaning::kExec: out.exec = true; break;
    case Meaning::kNoExec: out.exec = false; break;
    case Meaning::kUser: out.suid = out.dev = out.exec = false; break;
    case Meaning::kWriteback: out.writeback = true; break;
    case Meaning::kWriteThrough: out.writeback = false; break;
    case Meaning::kWakeupAdaptive: out.wakeup = WakeupMode::kAdaptive; break;
    case Meaning::kWakeupAlways: out.wakeup = WakeupMode::kAlways; break;
    case Meaning::kWakeupNever: out.wakeup = WakeupMode::kNever; break;
    case Meaning::kUring: out.io_uring = true; break;
    case Meaning::kDevice: out.io_uring = false; break;
    case Meaning::kDegrade: out.housekeeping.when_full = WhenFull::kDegrade; break;
    case Meaning::kBlock: out.housekeeping.when_full = WhenFull::kBlock; break;
    case Meaning::kRefused:
      return fail(fmt::format("mount option {} is not supported: {}", option, row->why), 0,
                  ExitStatus::kUsage);
  }
  return {};
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::vector<std::string>& values) {
  MountOptions out;
  for (const std::string& value : values) {
    std::istringstream in(value);
    for (std::string option; std::getline(in, option, ',');) EPOCHFS_DO(take(option, out));
  }
  return out;
}

}  // namespace epochfs::fs
