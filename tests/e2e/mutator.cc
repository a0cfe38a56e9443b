#include "tests/e2e/mutator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstring>

#include "journal/base/unix.h"
#include "tests/e2e/process.h"
#include "tests/support/failure.h"
#include "tests/support/random.h"

namespace epochfs::testing {
namespace {

using Kind = Operation::Kind;

constexpr size_t kDeepest = 5;
constexpr uint64_t kLargest = 1 << 20;     // of a file, but for sparse ones
constexpr uint64_t kFarAway = 3ull << 30;  // where those end, about

const std::string kNames[] = {
    "a",
    "b",
    "c",
    "d",
    "data",
    "log",
    "Makefile",
    ".hidden",
    "...",
    "-rf",
    "two words",
    " ",
    "new\nline",
    "tab\tand \\ and \"",
    "*?[x]",
    "\xff\xfe not UTF-8 \x80",
    "\xc3\xa9",   // a letter with an accent,
    "e\xcc\x81",  // and the same in two characters
    std::string(255, 'n'),
    std::string(253, 'n') + "\xf0\x90",
};
const char* const kXattrs[] = {"user.a", "user.b", "trusted.t"};
constexpr uint32_t kModes[] = {0644, 0600, 0755, 0, 04755, 02755, 06711, 02644, 01777, 0444};
constexpr uint32_t kDirectoryModes[] = {0755, 0700, 02775, 01777, 03777, 0555};
constexpr uint32_t kOwners[] = {0, 1, 1000, 65534, 4000000000};
constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kAllocations[] = {
    kPunch,
    FALLOC_FL_ZERO_RANGE,
    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
    0,
};

size_t depth(const std::string& path) {
  return path.empty() ? 0 : size_t(std::count(path.begin(), path.end(), '/')) + 1;
}

}  // namespace

const Mutator::Row Mutator::kRows[] = {
    {16, &Mutator::create},          {5, &Mutator::make_directory},
    {2, &Mutator::make_node},        {2, &Mutator::make_symlink},
    {4, &Mutator::make_link},        {6, &Mutator::unlink},
    {1, &Mutator::remove_tree},      {8, &Mutator::rename},
    {2, &Mutator::swap_names},       {3, &Mutator::replace_by_rename},
    {2, &Mutator::use_name_briefly}, {1, &Mutator::move_over_new_directory},
    {10, &Mutator::write},           {5, &Mutator::append},
    {3, &Mutator::write_mapped},     {5, &Mutator::truncate},
    {4, &Mutator::allocate},         {2, &Mutator::copy_range},
    {3, &Mutator::change_mode},      {3, &Mutator::change_owner},
    {3, &Mutator::change_times},     {3, &Mutator::set_xattr},
    {1, &Mutator::remove_xattr},     {2, &Mutator::do_what_must_fail},
};

Mutator::Mutator(std::string directory, Random& random, Preallocation preallocation)
    : directory_(std::move(directory)), random_(random.u64()), preallocation_(preallocation) {}

void Mutator::run(size_t n) {
  ::umask(0);  // the model has none
  UniqueFd root(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!root) throw_errno("open " + directory_);
  for (size_t i = 0; i < n; ++i) {
    while (next_.empty()) choose();
    const Operation operation = std::move(next_.front());
    next_.pop_front();
    const int expected = model_.apply(operation);
    const int actual = perform(root.get(), operation);
    if (expected == actual) continue;
    throw Failure(fmt::format("{} gave \"{}\" instead of \"{}\"", describe(operation),
                              std::strerror(actual), std::strerror(expected)));
  }
}

void Mutator::choose() {
  files_ = model_.list();
  if (files_.size() > kMostEntries) {
    for (int i = 0; i < 20; ++i) unlink();
    remove_tree();
    return;
  }
  unsigned sum = 0;
  for (const Row& row : kRows) sum += row.weight;
  uint64_t drawn = random_.below(sum);
  for (const Row& row : kRows) {
    if (drawn < row.weight) return (this->*row.choose)();
    drawn -= row.weight;
  }
}

// ---- what there is ----

const Model::Listed* Mutator::any(uint32_t type) {
  std::vector<const Listed*> fit;
  for (const Listed& file : files_) {
    if (type == 0 || file.type == type) fit.push_back(&file);
  }
  return fit.empty() ? nullptr : random_.one_of(fit);
}

std::string Mutator::any_directory() {
  const Listed* directory = random_.one_in(4) ? nullptr : any(S_IFDIR);
  return directory && depth(directory->path) < kDeepest ? directory->path : "";
}

std::string Mutator::any_name() {
  return random_.one_in(3) ? fmt::format("f{}", random_.below(1000)) : random_.one_of(kNames);
}

std::string Mutator::any_place() {
  const std::string directory = any_directory();
  return directory.empty() ? any_name() : directory + "/" + any_name();
}

uint64_t Mutator::any_offset(const Listed& file) {
  if (random_.one_in(30)) return kFarAway + random_.below(1 << 20);
  const uint64_t size = std::min(file.size, kLargest);
  return random_.below(size + size / 4 + 2);
}

uint64_t Mutator::any_length() {
  constexpr uint64_t kBelow[] = {16, 5000, 5000, 40'000, 300'000};
  return 1 + random_.below(random_.one_of(kBelow));
}

// ---- names ----

void Mutator::create() {
  const bool temporary = random_.one_in(6);
  const uint64_t length = random_.one_in(4) ? 0 : any_length();
  plan({.kind = temporary ? Kind::kTemporary : Kind::kCreate,
        .path = any_place(),
        .mode = 0777 & random_.one_of(kModes),
        .length = length,
        .seed = random_.u64()});
}

void Mutator::make_directory() {
  plan({.kind = Kind::kMakeDirectory, .path = any_place(), .mode = 0755});
}

void Mutator::make_node() {
  constexpr uint32_t kTypes[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
  const uint32_t type = random_.one_of(kTypes);
  const bool device = type == S_IFCHR || type == S_IFBLK;
  plan({.kind = Kind::kMakeNode,
        .path = any_place(),
        .mode = type | 0640,
        .rdev = device ? makedev(random_.below(200), random_.below(70'000)) : 0});
}

void Mutator::make_symlink() {
  std::string target = random_.one_in(4) ? std::string(1 + random_.below(2000), 't') : any_place();
  plan({.kind = Kind::kSymlink, .path = any_place(), .value = std::move(target)});
}

void Mutator::make_link() {
  const Listed* file = random_.one_in(5) ? any() : any(S_IFREG);
  if (file) plan({.kind = Kind::kLink, .path = file->path, .path2 = any_place()});
}

void Mutator::unlink() {
  const Listed* file = any();
  if (!file) return;
  const bool directory = file->type == S_IFDIR;
  plan({.kind = directory ? Kind::kRemoveDirectory : Kind::kUnlink, .path = file->path});
}

void Mutator::remove_tree() {
  const Listed* directory = any(S_IFDIR);
  if (!directory) return;
  const std::string top = directory->path;
  // Listed parents first, so they go last.
  for (auto file = files_.rbegin(); file != files_.rend(); ++file) {
    if (file->path != top && !file->path.starts_with(top + "/")) continue;
    const bool is_directory = file->type == S_IFDIR;
    plan({.kind = is_directory ? Kind::kRemoveDirectory : Kind::kUnlink, .path = file->path});
  }
}

void Mutator::rename() {
  constexpr uint32_t kFlags[] = {0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
  const Listed* file = random_.one_in(2) ? any(S_IFDIR) : any();
  const Listed* onto = random_.one_in(2) ? any() : nullptr;
  if (!file) return;
  plan({.kind = Kind::kRename,
        .path = file->path,
        .path2 = onto ? onto->path : any_place(),
        .mode = random_.one_of(kFlags)});
}

// By way of a third name, as those do it that know no RENAME_EXCHANGE.
void Mutator::swap_names() {
  const Listed* one = any();
  const Listed* two = any(one ? one->type : 0);
  if (!one || !two || one->path.starts_with(two->path) || two->path.starts_with(one->path)) return;
  const std::string aside = "aside-" + std::to_string(random_.below(1'000'000));
  plan({.kind = Kind::kRename, .path = one->path, .path2 = aside});
  plan({.kind = Kind::kRename, .path = two->path, .path2 = one->path});
  plan({.kind = Kind::kRename, .path = aside, .path2 = two->path});
}

// As editors save.
void Mutator::replace_by_rename() {
  const Listed* file = any(S_IFREG);
  if (!file) return;
  const std::string fresh = "fresh-" + std::to_string(random_.below(1'000'000));
  plan({.kind = Kind::kCreate,
        .path = fresh,
        .mode = 0644,
        .length = any_length(),
        .seed = random_.u64()});
  plan({.kind = Kind::kRename, .path = fresh, .path2 = file->path});
}

void Mutator::use_name_briefly() {
  const std::string place = any_place();
  plan({.kind = Kind::kCreate, .path = place, .mode = 0600, .length = 100, .seed = random_.u64()});
  plan({.kind = Kind::kUnlink, .path = place});
  if (random_.one_in(2)) return;
  plan({.kind = Kind::kMakeDirectory, .path = place, .mode = 0700});
  plan({.kind = Kind::kRemoveDirectory, .path = place});
  plan({.kind = Kind::kSymlink, .path = place, .value = "again"});
}

void Mutator::move_over_new_directory() {
  const Listed* directory = any(S_IFDIR);
  if (!directory) return;
  const std::string fresh = "directory-" + std::to_string(random_.below(1'000'000));
  plan({.kind = Kind::kMakeDirectory, .path = fresh, .mode = 0711});
  plan({.kind = Kind::kRename, .path = directory->path, .path2 = fresh});
  plan({.kind = Kind::kCreate, .path = fresh + "/inside", .mode = 0644, .length = 10, .seed = 3});
  plan({.kind = Kind::kRename, .path = fresh, .path2 = directory->path});
}

// ---- contents ----

void Mutator::write() {
  const Listed* file = any(S_IFREG);
  if (!file) return;
  plan({.kind = Kind::kWrite,
        .path = file->path,
        .offset = any_offset(*file),
        .length = any_length(),
        .seed = random_.u64()});
}

void Mutator::append() {
  const Listed* file = any(S_IFREG);
  if (!file) return;
  for (uint64_t i = 0; i <= random_.below(3); ++i) {
    plan(
        {.kind = Kind::kAppend, .path = file->path, .length = any_length(), .seed = random_.u64()});
  }
}

void Mutator::write_mapped() {
  const Listed* file = any(S_IFREG);
  if (!file || file->size == 0 || file->size > kLargest) return;
  const uint64_t offset = random_.below(file->size);
  plan({.kind = Kind::kMapWrite,
        .path = file->path,
        .offset = offset,
        .length = std::min(any_length(), file->size - offset),
        .seed = random_.u64()});
}

void Mutator::truncate() {
  const Listed* file = any(S_IFREG);
  if (!file) return;
  const uint64_t size = random_.one_in(4) ? 0 : any_offset(*file);
  plan({.kind = Kind::kTruncate, .path = file->path, .length = size, .seed = random_.u64()});
  // What was cut off must not come back.
  if (random_.one_in(2)) {
    plan({.kind = Kind::kTruncate, .path = file->path, .length = size + any_length()});
  }
}

void Mutator::allocate() {
  const Listed* file = any(S_IFREG);
  if (!file) return;
  const bool punch = preallocation_ == Preallocation::kNever;
  plan({.kind = Kind::kAllocate,
        .path = file->path,
        .mode = uint32_t(punch ? kPunch : random_.one_of(kAllocations)),
        .offset = any_offset(*file),
        .length = any_length()});
}

void Mutator::copy_range() {
  const Listed* from = any(S_IFREG);
  const Listed* to = any(S_IFREG);
  if (!from || !to || from->file == to->file) return;
  plan({.kind = Kind::kCopyRange,
        .path = from->path,
        .path2 = to->path,
        .offset = random_.below(from->size + 1),
        .offset2 = any_offset(*to),
        .length = any_length()});
}

// ---- attributes ----

void Mutator::change_mode() {
  const Listed* file = any();
  if (!file || file->type == S_IFLNK) return;
  const bool directory = file->type == S_IFDIR;
  plan({.kind = Kind::kChangeMode,
        .path = file->path,
        .mode = directory ? random_.one_of(kDirectoryModes) : random_.one_of(kModes)});
}

void Mutator::change_owner() {
  if (const Listed* file = any()) {
    plan({.kind = Kind::kChangeOwner,
          .path = file->path,
          .uid = random_.one_of(kOwners),
          .gid = random_.one_of(kOwners)});
  }
}

void Mutator::change_times() {
  if (const Listed* file = any()) {
    plan({.kind = Kind::kChangeTimes,
          .path = file->path,
          .seconds = int64_t(random_.below(1ull << 33)) - (1ll << 31),  // 1901 to 2174
          .nanoseconds = int64_t(random_.below(1'000'000'000))});
  }
}

void Mutator::set_xattr() {
  const Listed* file = any();
  if (!file) return;
  const bool user = file->type == S_IFREG || file->type == S_IFDIR;
  plan({.kind = Kind::kSetXattr,
        .path = file->path,
        .name = user ? random_.one_of(kXattrs) : "trusted.t",
        .value = bytes_of(random_.u64(), random_.below(300))});
}

void Mutator::remove_xattr() {
  const Listed* file = any();
  if (!file || file->xattrs.empty()) return;
  plan({.kind = Kind::kRemoveXattr, .path = file->path, .name = random_.one_of(file->xattrs)});
}

// ---- and what changes nothing ----

void Mutator::do_what_must_fail() {
  const Listed* file = any();
  const Listed* directory = any(S_IFDIR);
  if (!file || !directory) return;
  switch (random_.below(6)) {
    case 0:
      return plan(
          {.kind = Kind::kRename, .path = directory->path, .path2 = directory->path + "/below"});
    case 1: return plan({.kind = Kind::kMakeDirectory, .path = file->path, .mode = 0755});
    case 2: return plan({.kind = Kind::kUnlink, .path = directory->path});
    case 3: return plan({.kind = Kind::kRename, .path = "not there", .path2 = file->path});
    case 4:
      return plan({.kind = Kind::kRemoveXattr, .path = directory->path, .name = "user.not-there"});
    default: return plan({.kind = Kind::kLink, .path = directory->path, .path2 = any_place()});
  }
}

}  // namespace epochfs::testing
