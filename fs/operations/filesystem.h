// Filesystem: what do all operations of one mount share?
//
// The operations themselves are in one file for each family; each file fills in its part of
// libfuse's table. An operation gets its Filesystem from the request, answers each request exactly
// once, and reports errors as errno.
//
// Threads: everything here from any worker thread.
#pragma once

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "fs/base/fuse.h"
#include "fs/base/idle_latency.h"
#include "fs/base/mount_options.h"
#include "fs/nodes/handle_table.h"
#include "fs/nodes/inode_table.h"
#include "fs/operations/worker.h"
#include "fs/recording/recorder.h"
#include "fs/recording/shared_mappings.h"
#include "journal/base/mutex.h"

namespace epochfs::fs {

// The mount is the only writer, so the kernel may keep what it knows for a year.
constexpr double kCacheSeconds = 365.0 * 24 * 3600;

struct OpenFile {
  UniqueFd fd;
  NodeId node = 0;
  FileId id;
  FileHandle handle;
  int flags = 0;  // as the application opened it
  // Whether the file had set-id bits when set_id_generation was set_id_checked.
  std::atomic<bool> set_id{false};
  std::atomic<uint64_t> set_id_checked{0};
};

struct OpenDirectory {
  UniqueFd fd;
  Mutex mutex;
  // Entries that were read and not yet passed on.
  std::vector<char> buffer EPOCHFS_GUARDED_BY(mutex);
  size_t begin EPOCHFS_GUARDED_BY(mutex) = 0;
  size_t end EPOCHFS_GUARDED_BY(mutex) = 0;
  off_t next_offset EPOCHFS_GUARDED_BY(mutex) = 0;  // of the entry at `begin`
};

struct Filesystem {
  Filesystem(Inode root, std::string journal_path, Recorder& recorder, const MountOptions& options);

  const MountOptions options;
  UniqueFd backing;  // the root of the backing directory, to open handles with
  dev_t device;      // of the backing file system
  // Files are not opened by handle, which takes root: see fs/base/privileges.h.
  const bool by_descriptor;
  int descriptor_limit;
  std::string journal_path;
  Recorder& recorder;
  Workers workers;
  InodeTable inodes;
  HandleTable<OpenFile> files;
  HandleTable<OpenDirectory> directories;
  SharedMappings shared_mappings;
  IdleLatency idle_latency;
  fuse_session* session = nullptr;
  fuse_lowlevel_ops operations{};  // set before the session begins
  // Which abilities of the kernel the session has; and which it lacks, with the reason. Complete
  // before the first request.
  std::vector<std::string> features, missing;
  // Grows when some file may have got set-id bits. Only then does a write have to check whether it
  // must clear them.
  std::atomic<uint64_t> set_id_generation{1};
  // Grows before some file may get capabilities.
  std::atomic<uint64_t> capability_generation{0};
  std::atomic<bool> negotiated{false};  // session and kernel have agreed
  // Held from reading a file's mtime to setting it; only with -o writeback.
  Mutex& mtime_mutex(NodeId node) { return mtime_mutexes[node % mtime_mutexes.size()]; }
  std::array<Mutex, 1024> mtime_mutexes;  // enough that files rarely share one
  std::atomic<bool> uring_seen{false};    // a request came through io_uring
};

inline Filesystem& filesystem(fuse_req_t req) {
  return *static_cast<Filesystem*>(fuse_req_userdata(req));
}

// Adds a family's operations to libfuse's table.
void add_lookup_operations(fuse_lowlevel_ops& ops);     // lookup.cc
void add_attribute_operations(fuse_lowlevel_ops& ops);  // attributes.cc
void add_name_operations(fuse_lowlevel_ops& ops);       // names.cc
void add_data_operations(fuse_lowlevel_ops& ops);       // data.cc
void add_directory_operations(fuse_lowlevel_ops& ops);  // directories.cc
void add_xattr_operations(fuse_lowlevel_ops& ops);      // xattrs.cc

// ---- answers ----

// error: 0 or -errno.
inline void reply(fuse_req_t req, int error) { fuse_reply_err(req, -error); }

struct stat to_stat(const struct statx& a);

// 0 or -errno. fd may be O_PATH.
int attributes_of(int fd, struct statx& out);

// Handles of another file system must never enter the inode table: a nested mount or a btrfs
// subvolume is -EXDEV.
int check_device(const Filesystem& fs, const struct statx& a);

// Opens a descriptor of the named file for the inode table to keep (with an empty name: of `dir`
// itself), if the file system works by descriptor. Otherwise leaves `path` empty. 0 or -errno.
int path_to_keep(fuse_req_t req, int dir, const char* name, SharedFd& path);

// Makes the answer by which the kernel learns of one file, and counts the lookup.
fuse_entry_param make_entry(Filesystem& fs, const struct statx& a, const FileHandle& handle,
                            SharedFd path = {});
// Answers with an entry. Takes the lookup back if the request was interrupted.
void reply_entry(fuse_req_t req, const fuse_entry_param& entry);

// Makes a file handle and answers with it; if the file is new, also with its entry.
void reply_open(fuse_req_t req, std::unique_ptr<OpenFile> file, fuse_file_info* fi,
                const fuse_entry_param* entry = nullptr);
void close_file(Filesystem& fs, uint64_t handle);

// Whether a descriptor just opened for an application is one of the last that the process may
// have. Those are for the journal, for pins and for what a barrier has to open.
bool is_reserved(fuse_req_t req, const UniqueFd& fd);

// ---- mutations ----

Caller caller_of(fuse_req_t req);
journal::Record make_intent(fuse_req_t req, journal::RecordType type);

inline Touched touch(const Inode& inode, ByteRange data = {}) {
  return {.id = inode.id, .handle = inode.handle, .fd = inode.path ? inode.fd() : -1, .data = data};
}
inline Touched touch(const OpenFile& file, ByteRange data = {}) {
  return {.id = file.id, .handle = file.handle, .fd = file.fd.get(), .data = data};
}

// For WorkerThread::AsOrdinaryUser: the caller's groups if `ordinary` and the file has set-id bits;
// otherwise none. fd may be O_PATH.
std::vector<gid_t> groups_for_set_id(fuse_req_t req, int fd, bool ordinary);

// fsync(2) or fdatasync(2), after the journal was made durable. 0 or -errno.
int make_durable(Filesystem& fs, int fd, bool data_only);

// Turns the flags that an application asked for into those to open the backing file with.
int backing_flags(const Filesystem& fs, int flags);

}  // namespace epochfs::fs
