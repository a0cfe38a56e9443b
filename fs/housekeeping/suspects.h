// Suspects: how does a comparison of size, mtime and ctime find a file that may have lost bytes in
// a power cut? The file gets a new ctime.
#pragma once

#include "journal/base/result.h"
#include "journal/base/types.h"

namespace epochfs::fs {

// Gives the file a new ctime and changes nothing else. backing_dir: any open file of its file
// system. False: the file is gone, another file has its handle, or it is no regular file. Takes
// root.
Result<bool> give_new_ctime(int backing_dir, const FileId& file, const FileHandle& handle);

// Does the same to every regular file below the directory, except on other file systems. The error
// is that of the first file that failed; the others have their new ctime.
Result<bool> give_all_new_ctimes(int backing_dir);

}  // namespace epochfs::fs
