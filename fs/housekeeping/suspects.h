// Suspects: how does a file that may have lost bytes in a power cut give itself away to
// those who compare size, mtime and ctime?
#pragma once

#include "journal/base/result.h"
#include "journal/base/types.h"

namespace epochfs::fs {

// Gives the file a new ctime and changes nothing else. backing_dir: any open file of its
// file system. False: it is gone, another file has its handle, or it is no regular file.
// Takes root.
Result<bool> give_new_ctime(int backing_dir, const FileId& file, const FileHandle& handle);

// The same of every regular file below the directory, but for other file systems. An
// error: of the first that failed; the others have theirs.
Result<bool> give_all_new_ctimes(int backing_dir);

}  // namespace epochfs::fs
