// Unprivileged: what does a mount do where an ordinary user makes it?
//
// Such a mount is made and unmounted through fusermount3, serves its user only, and
// cannot open files by handle: it keeps a descriptor of every file that the kernel knows.
#pragma once

#include <string>
#include <vector>

namespace epochfs::fs {

// Whether this thread has a capability (CAP_...), as far as the mount itself has changed any: they
// are read once a thread.
bool has_capability(unsigned capability);

// Whether a mount may be made as root makes it.
bool is_privileged();

// What such a mount goes without, a line each, for its start.
std::vector<std::string> what_users_go_without(int descriptor_limit);

// Where the state is unless it is named: root's place, or one in the user's home.
std::string default_state_dir();

// umount2(2), or fusermount3 where that is not allowed. lazy: as with MNT_DETACH.
// 0 or -errno; EPERM also where fusermount3 is missing or refuses.
int unmount_path(const std::string& path, bool lazy);

}  // namespace epochfs::fs
