// Attributes: what is a file besides its bytes and its names? Read into the message that is
// shipped, and that pre-images keep (schema/replication.capnp).
#pragma once

#include <string>

#include "journal/base/result.h"
#include "schema/replication.capnp.h"

namespace epochfs::journal {

// Reads the attributes of an open file, including xattrs and a symbolic link's target. O_PATH is
// enough. Any thread.
Result<void> capture_attributes(int fd, rpc::Attributes::Builder out);

// The same as one flat message, which PreImageWriter::publish_attributes() takes.
Result<std::string> capture_attributes(int fd);

// The kind of file system object, from st_mode.
inline bool is_regular(uint32_t mode) { return (mode & 0170000) == 0100000; }
inline bool is_directory(uint32_t mode) { return (mode & 0170000) == 0040000; }

inline rpc::FileId::Builder set_file_id(rpc::FileId::Builder out, uint64_t inode, uint64_t birth) {
  out.setInode(inode);
  out.setBirthNs(birth);
  return out;
}

}  // namespace epochfs::journal
