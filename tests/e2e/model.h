// Model: what should a tree be after these operations? A file system in memory, as
// root with a umask of 0 sees it, without times and without holes.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/e2e/operation.h"
#include "tests/support/tree.h"

namespace epochfs::testing {

// The bytes of a file, however large and sparse.
class Content {
 public:
  uint64_t size() const { return size_; }
  void write(uint64_t offset, std::string_view bytes);
  void truncate(uint64_t size);
  void zero(uint64_t begin, uint64_t end);  // does not change the size
  std::string read(uint64_t offset, uint64_t length) const;
  uint64_t hash() const;

 private:
  uint64_t size_ = 0;
  std::map<uint64_t, std::string> blocks_;  // by number, of ContentHash::kBlock bytes
};

class Model {
 public:
  Model();

  // 0 or the errno that the kernel would give.
  int apply(const Operation& operation);

  // With modes, owners, sizes, links, xattrs and contents; see Strictness for the rest.
  TreeSnapshot snapshot() const;

  // Paths below the root. "" is the root itself.
  struct Listed {
    std::string path;
    uint32_t type = 0;  // as in st_mode
    uint64_t size = 0;
    uint64_t node = 0;   // the same for names of one file
    bool empty = false;  // of a directory
    std::vector<std::string> xattrs = {};
  };
  std::vector<Listed> list() const;

 private:
  struct Node;
  using NodePointer = std::shared_ptr<Node>;
  struct Node {
    uint32_t mode = 0, uid = 0, gid = 0;
    uint64_t rdev = 0, links = 1;
    uint64_t number = 0;
    Content content;
    std::string symlink_target;
    std::map<std::string, std::string> xattrs;
    std::map<std::string, NodePointer> children;

    uint32_t type() const;
    bool is_directory() const;
  };
  // A path, looked up. Where the last name is not there, node is null.
  struct Place {
    int error = 0;
    NodePointer parent;
    std::string name;
    NodePointer node;
    std::vector<NodePointer> ancestors;  // of the place, from the root on, parent included
  };

  Place find(const std::string& path) const;
  NodePointer make(const Place& place, uint32_t mode);
  int add(const Operation& o);
  int link(const Operation& o);
  int remove(const Operation& o);
  int rename(const Operation& o);
  int change_content(const Operation& o, Node& node);
  int copy_range(const Operation& o);
  int change_attributes(const Operation& o, Node& node);
  static void list_below(const Node& node, const std::string& path, std::vector<Listed>& out);

  NodePointer root_;
  uint64_t made_ = 0;
};

}  // namespace epochfs::testing
