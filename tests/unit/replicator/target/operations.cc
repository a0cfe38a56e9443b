#include "tests/unit/replicator/target/operations.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace epochfs::testing {

void Operations::run(size_t count) {
  for (size_t i = 0; i < count; ++i) one();
}

void Operations::one() {
  // Grows to some size, and stays about there.
  if (m_.files.size() < 60 && random_.one_in(2)) {
    return random_.one_in(3) ? make_directory() : random_.one_in(4) ? link() : create();
  }
  switch (random_.below(16)) {
    case 0:
    case 1:
    case 2: return create();
    case 3: return make_directory();
    case 4:
    case 5: return write();
    case 6: return resize();
    case 7:
    case 8: return rename();
    case 9: return exchange();
    case 10: return link();
    case 11: return unlink();
    case 12: return remove_tree();
    case 13: return attributes();
    case 14: return special();
    case 15: return reincarnate();
  }
}

// ---- choosing ----

std::vector<OracleName> Operations::places(bool directories, bool files) const {
  std::vector<OracleName> out;
  for (const auto& [id, f] : m_.files) {
    for (const auto& [name, child] : f.children) {
      if (m_.at(child).is_dir() ? directories : files) out.push_back({id, name});
    }
  }
  return out;
}

FileId Operations::any_directory() {
  std::vector<FileId> out;
  for (const auto& [id, f] : m_.files) {
    if (f.is_dir()) out.push_back(id);
  }
  return random_.one_of(out);
}

FileId Operations::any_regular() {
  std::vector<FileId> out;
  for (const auto& [id, f] : m_.files) {
    if (f.is_reg()) out.push_back(id);
  }
  return out.empty() ? FileId{} : random_.one_of(out);
}

std::string Operations::any_name() {
  static const char* const odd[] = {"new\nline", "\xff\xfe", "-rf", " ", "...", "a:b"};
  if (random_.one_in(10)) return random_.one_of(odd);
  return std::string(1, char('a' + random_.below(8)));
}

std::string Operations::bytes(size_t size) {
  std::string out(size, '\0');
  if (random_.one_in(4)) return out;  // zeros, which may become holes
  uint64_t seed = random_.u64();
  const bool dull = random_.one_in(2);
  for (size_t i = 0; i < size; ++i) {
    out[i] = dull ? char(seed + i / 700) : char((seed = seed * 6364136223846793005ull + 1) >> 56);
  }
  return out;
}

size_t Operations::size_of(FileId id) const {
  size_t n = 1;
  for (const auto& [_, child] : m_.at(id).children) n += size_of(child);
  return n;
}

// ---- names ----

void Operations::create() {
  const OracleName place = any_place();
  if (const FileId there = m_.lookup(place)) {
    if (m_.at(there).is_dir()) return;
    m_.unlink(place.directory, place.name);  // another file under the same name
  }
  const uint32_t mode = S_IFREG | (random_.one_in(8) ? 04755 : 0644);
  const FileId id = m_.create(place.directory, place.name, mode);
  if (random_.one_in(4)) return;
  m_.write(id, random_.one_in(5) ? random_.below(9000) : 0, bytes(random_.below(max_bytes_)));
}

void Operations::make_directory() {
  m_.make(any_place(), random_.one_in(6) ? S_IFDIR | 02770 : S_IFDIR | 0755);
}

void Operations::rename() {
  const auto all = places(true, true);
  if (!all.empty()) m_.move(random_.one_of(all), any_place(), 0);
}

void Operations::exchange() {
  const auto all = places(true, true);
  if (all.empty()) return;
  const OracleName a = random_.one_of(all), b = random_.one_of(all);
  const FileId files[] = {m_.lookup(a), m_.lookup(b)};
  const OracleTime before[] = {m_.at(files[0]).attributes.ctime, m_.at(files[1]).attributes.ctime};
  if (m_.move(a, b, RENAME_EXCHANGE)) return;
  // A target must not rely on hearing of the files themselves.
  if (random_.one_in(2)) return;
  for (size_t i = 0; i < 2; ++i) m_.at(files[i]).attributes.ctime = before[i];
}

void Operations::link() {
  const auto all = places(false, true);
  if (!all.empty()) m_.add_link(m_.lookup(random_.one_of(all)), any_place());
}

void Operations::unlink() {
  const auto all = places(false, true);
  if (!all.empty()) m_.remove_file(random_.one_of(all));
}

void Operations::remove_tree() {
  const auto all = places(true, false);
  if (all.empty()) return;
  const OracleName& p = random_.one_of(all);
  if (size_of(m_.lookup(p)) < 6 || random_.one_in(6)) m_.remove_tree(p.directory, p.name);
}

void Operations::special() {
  const OracleName p = any_place();
  if (m_.lookup(p)) return;
  switch (random_.below(4)) {
    case 0: m_.symlink(p.directory, p.name, "../" + any_name()); break;
    case 1: m_.symlink(p.directory, p.name, "/etc/passwd"); break;
    case 2: m_.create(p.directory, p.name, S_IFIFO | 0640); break;
    case 3:
      m_.at(m_.create(p.directory, p.name, S_IFCHR | 0600)).attributes.rdev =
          makedev(1, random_.below(10));
  }
}

// A file system gives an inode number away again within one tick of its clock: another file,
// of any type, with the identity of one that just went.
void Operations::reincarnate() {
  const auto all = places(true, true);
  if (all.empty()) return;
  const OracleName p = random_.one_of(all);
  const FileId id = m_.lookup(p);
  if (!m_.at(id).children.empty() || m_.at(id).links > 1) return;
  m_.unlink(p.directory, p.name);
  const FileId directory = random_.one_in(2) ? p.directory : any_directory();
  const OracleName place{directory, random_.one_in(2) ? p.name : any_name()};
  if (m_.lookup(place)) return;
  if (random_.one_in(3)) {
    m_.create(place.directory, place.name, S_IFDIR | 0755, id);
  } else {
    m_.write(m_.create(place.directory, place.name, S_IFREG | 0600, id), 0,
             bytes(random_.below(max_bytes_)));
  }
}

// ---- what a file is ----

void Operations::write() {
  const FileId id = any_regular();
  if (!id) return;
  m_.write(id, random_.below(m_.at(id).data.size() + 5000),
           bytes(1 + random_.below(random_.one_in(4) ? max_bytes_ : 300)));
}

void Operations::resize() {
  if (const FileId id = any_regular()) {
    m_.truncate(id, random_.one_in(3) ? 0 : random_.below(max_bytes_));
  }
}

void Operations::attributes() {
  const auto all = places(true, true);
  if (all.empty()) return;
  const FileId id = m_.lookup(random_.one_of(all));
  const OracleFile& f = m_.at(id);
  auto any_xattr = [&] { return "user.x" + std::to_string(random_.below(3)); };
  switch (random_.below(4)) {
    case 0:
      if (!f.is_symlink()) m_.set_mode(id, uint32_t(random_.below(010000)));
      break;
    case 1: m_.set_owner(id, uint32_t(random_.below(2000)), uint32_t(random_.below(2000))); break;
    case 2:
      m_.set_mtime(id,
                   {int64_t(random_.below(2'000'000'000)), int64_t(random_.below(1'000'000'000))});
      break;
    case 3:
      if (f.is_symlink()) break;
      if (f.is_dir() || f.is_reg()) m_.set_xattr(id, any_xattr(), bytes(random_.below(100)));
      if (random_.one_in(2)) m_.remove_xattr(id, any_xattr());
      m_.set_xattr(id, "trusted.y", std::to_string(random_.below(100)));
  }
}

}  // namespace epochfs::testing
