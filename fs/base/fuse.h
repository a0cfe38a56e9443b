// Fuse: which abilities of libfuse does this build have? The one place that includes libfuse.
// 3.14 is the floor; 3.18 has more.
#pragma once

#if __has_include(<libfuse_config.h>)
#include <libfuse_config.h>  // newer ones say their version here
#endif
#if defined(FUSE_MINOR_VERSION) && FUSE_MINOR_VERSION >= 17
#define FUSE_USE_VERSION 317
#else
#define FUSE_USE_VERSION 312
#endif
#include <fuse_lowlevel.h>

#define EPOCHFS_FUSE_TMPFILE (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17))
#define EPOCHFS_FUSE_STATX (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18))
#define EPOCHFS_FUSE_URING (FUSE_VERSION >= FUSE_MAKE_VERSION(3, 18))
// Before 3.18.3, libfuse did not pass on that a write has to clear set-id bits.
#if FUSE_VERSION > FUSE_MAKE_VERSION(3, 18) || \
    (FUSE_VERSION == FUSE_MAKE_VERSION(3, 18) && FUSE_HOTFIX_VERSION >= 3)
#define EPOCHFS_FUSE_KILLPRIV_V2 1
#else
#define EPOCHFS_FUSE_KILLPRIV_V2 0
#endif

// Node ids, file handles and offsets are 64 bits wide everywhere.
static_assert(sizeof(fuse_ino_t) == 8 && sizeof(off_t) == 8);
