#include "journal/volume/labels.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "journal/base/directory.h"
#include "journal/base/unix.h"
#include "journal/volume/volume.h"

namespace epochfs::journal {
namespace {

// The folder; no descriptor if no label was ever written.
Result<UniqueFd> open_labels(int volume_dir) {
  auto labels = open_directory(volume_dir, kLabelsDir);
  if (!labels && labels.error().code == ENOENT) return UniqueFd();
  return labels;
}

// A volume has no such folder before its first label.
Result<UniqueFd> make_labels(Storage& storage, int volume_dir) {
  if (::mkdirat(volume_dir, kLabelsDir, 0700) == 0) {
    EPOCHFS_DO(storage.sync_directory("labels-create", volume_dir, "volume"));
  } else if (errno != EEXIST) {
    return fail_errno("make directory labels");
  }
  return open_labels(volume_dir);
}

std::string file_name(EpochId epoch) { return fmt::format("{}", value(epoch)); }

std::optional<uint64_t> number(std::string_view digits) {
  uint64_t n = 0;
  auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
  if (code != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return n;
}

Result<std::vector<EpochId>> list(int labels) {
  std::vector<EpochId> out;
  EPOCHFS_DO(for_each_entry(labels, kLabelsDir, [&](const char* name) {
    auto epoch = number(name);
    // No other spelling of the number: that is another file.
    if (epoch && file_name(EpochId{*epoch}) == name) out.push_back(EpochId{*epoch});
  }));
  std::sort(out.begin(), out.end());
  return out;
}

Result<void> remove_surplus(Storage& storage, int labels, EpochId newest) {
  EPOCHFS_TRY(auto epochs, list(labels));
  auto later = std::upper_bound(epochs.begin(), epochs.end(), newest);
  std::vector<EpochId> surplus(later, epochs.end());
  const auto kept = size_t(later - epochs.begin());
  if (kept > kMaxLabels) surplus.insert(surplus.end(), epochs.begin(), later - kMaxLabels);
  for (EpochId epoch : surplus) {
    EPOCHFS_DO(storage.remove_file("label-remove", labels, file_name(epoch)));
  }
  return {};
}

}  // namespace

Result<void> check_label(std::string_view text) {
  auto refuse = [](std::string why) {
    return fail("label an epoch: " + std::move(why), 0, ExitStatus::kUsage);
  };
  if (text.empty()) return refuse("the text is empty");
  if (text.size() > kMaxLabelBytes) {
    return refuse(
        fmt::format("the text has {} bytes; at most {} are kept", text.size(), kMaxLabelBytes));
  }
  if (!is_utf8(text)) return refuse("the text is not UTF-8");
  // In UTF-8, only control characters and backslashes are escaped.
  std::string plain(text);
  std::erase(plain, '\\');
  if (escape(plain) != plain) return refuse("the text holds a control character");
  return {};
}

Result<void> write_label(Storage& storage, int volume_dir, const SealedEpoch& epoch,
                         std::string_view text) {
  EPOCHFS_CHECK(check_label(text).has_value());
  EPOCHFS_TRY(UniqueFd labels, make_labels(storage, volume_dir));
  if (!labels) return fail("open directory labels", ENOENT);
  EPOCHFS_DO(storage.replace_file("label", labels.get(), file_name(epoch.epoch),
                                  fmt::format("{} {}\n", epoch.barrier_ns, text)));
  // The label is there. What could not be removed now goes with the next label.
  (void)remove_surplus(storage, labels.get(), epoch.epoch);
  return {};
}

Result<std::vector<EpochId>> list_labels(int volume_dir) {
  EPOCHFS_TRY(UniqueFd labels, open_labels(volume_dir));
  if (!labels) return std::vector<EpochId>();
  return list(labels.get());
}

Result<std::optional<std::string>> read_label(int volume_dir, const SealedEpoch& epoch) {
  using Label = std::optional<std::string>;
  EPOCHFS_TRY(UniqueFd labels, open_labels(volume_dir));
  if (!labels) return Label();
  auto bytes = read_file(labels.get(), file_name(epoch.epoch), kMaxLabelFileBytes);
  if (!bytes && bytes.error().code == ENOENT) return Label();
  if (!bytes && bytes.error().code != EFBIG) return tl::unexpected(bytes.error());
  const size_t space = bytes ? bytes->find(' ') : std::string::npos;
  const auto barrier_ns =
      space != std::string::npos ? number(bytes->substr(0, space)) : std::nullopt;
  if (barrier_ns && bytes->ends_with('\n')) {
    std::string text = bytes->substr(space + 1, bytes->size() - space - 2);
    if (check_label(text)) return *barrier_ns == epoch.barrier_ns ? Label(text) : Label();
  }
  return fail(fmt::format("read label of epoch {}: the file holds none", value(epoch.epoch)), 0,
              ExitStatus::kCorrupt);
}

}  // namespace epochfs::journal
