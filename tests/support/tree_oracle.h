// TreeOracle: what is a tree after these operations? A file system in memory that does to
// names, links, bytes, attributes and xattrs what Linux does for root with a umask of 0. Each
// test that needs a model of a tree has this one. They differ in what they do besides:
//
//   unit/journal/changes/recorded_tree.h  writes the records that a mount would write
//   unit/replicator/target/target_support.h  makes the transfers that a source would send
//   e2e/model.h  looks paths up, and applies what is done to a real mount
//
// It knows neither permissions nor holes. A removed name does not move the ctime of its file,
// since no target has to keep that.
//
// A value: a copy is a snapshot. Not for several threads at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "journal/base/types.h"
#include "tests/support/content.h"
#include "tests/support/tree.h"

namespace epochfs::testing {

struct OracleTime {
  int64_t seconds = 0, nanos = 0;
  bool operator==(const OracleTime&) const = default;
};

struct OracleAttributes {
  uint32_t mode = 0, uid = 0, gid = 0;  // mode with the type
  uint64_t rdev = 0;                    // as in st_rdev
  OracleTime atime, mtime, ctime;
  bool operator==(const OracleAttributes&) const = default;
};

struct OracleFile {
  OracleAttributes attributes;
  std::map<std::string, std::string> xattrs;
  std::string symlink_target;
  Content data;
  std::map<std::string, FileId> children;
  uint64_t links = 0;     // names, of directories too; the root has none
  FileId parent;          // of a directory
  bool held = false;      // an application has it open: it outlives its last name
  bool linkable = false;  // made without a name, and has had none yet
  uint64_t version = 0;   // of data: LSN of its last change
  uint64_t born = 0;      // LSN of its making: tells two files of one identity apart

  uint32_t type() const;  // as in st_mode
  bool is_dir() const;
  bool is_reg() const;
  bool is_symlink() const;
};

// A name in a directory, in use or not.
struct OracleName {
  FileId directory;
  std::string name;
};

struct TreeOracle {
  std::map<FileId, OracleFile> files;  // all that have a name or are held
  FileId root{2, 1};
  uint64_t lsn = 1;  // of the newest change; times follow from it
  uint64_t next_inode = 100;

  TreeOracle();

  // ---- looking ----

  bool has(FileId id) const { return files.count(id) != 0; }
  OracleFile& at(FileId id) { return files.at(id); }
  const OracleFile& at(FileId id) const { return files.at(id); }
  // No file where the name is not in use.
  FileId lookup(const OracleName& name) const;
  // A path that exists.
  FileId find(const std::string& path) const;
  // Whether `id` is the directory `top`, or a directory below it.
  bool is_below(FileId id, FileId top) const;
  // With modes, owners, mtimes, sizes, links, xattrs and contents; without holes.
  TreeSnapshot snapshot() const;

  // ---- names; 0, or the errno that Linux gives, and then nothing has changed ----

  // A file of the type in `mode`, empty. With `identity`, one that is used again.
  int make(const OracleName& at, uint32_t mode, FileId* made = nullptr, FileId identity = {});
  // As O_TMPFILE: held, without a name.
  FileId make_temporary(uint32_t mode, FileId identity = {});
  int add_link(FileId file, const OracleName& at);
  int remove_file(const OracleName& at);                                   // unlink(2)
  int remove_directory(const OracleName& at);                              // rmdir(2)
  int move(const OracleName& from, const OracleName& to, uint32_t flags);  // renameat2(2)
  void hold(FileId id) { at(id).held = true; }
  void release(FileId id);

  // ---- the same by hand: what does not succeed throws Failure ----

  FileId create(FileId parent, const std::string& name, uint32_t mode, FileId identity = {});
  FileId symlink(FileId parent, const std::string& name, const std::string& target);
  void link(FileId id, FileId parent, const std::string& name);
  void unlink(FileId parent, const std::string& name);  // an empty directory, too
  void remove_tree(FileId parent, const std::string& name);
  void rename(FileId from, const std::string& name, FileId to, const std::string& new_name);
  void exchange(FileId a, const std::string& name, FileId b, const std::string& name2);

  // ---- bytes ----

  void write(FileId id, uint64_t offset, std::string_view bytes);
  void truncate(FileId id, uint64_t size);
  void allocate(FileId id, uint64_t begin, uint64_t end, int mode);  // fallocate(2)

  // ---- attributes ----

  void set_mode(FileId id, uint32_t permissions);
  void set_owner(FileId id, uint32_t uid, uint32_t gid);
  void set_mtime(FileId id, OracleTime mtime);
  void set_xattr(FileId id, const std::string& name, const std::string& value);
  int remove_xattr(FileId id, const std::string& name);  // 0 or errno
  // Gives it the time of the newest change.
  void touch(FileId id) { at(id).attributes.mtime = at(id).attributes.ctime = now(); }

 private:
  OracleTime now() const;
  OracleFile& add(FileId id, uint32_t mode);
  OracleFile& changed(FileId id);  // its attributes
  OracleFile& written(FileId id);  // its bytes
  FileId identity_or_new(FileId identity);
  int check_vacant(const OracleName& at) const;
  int remove(const OracleName& at, bool directory);
  void put(FileId id, const OracleName& at);
  void lose_name(FileId id);
};

}  // namespace epochfs::testing
