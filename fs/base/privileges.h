// Privileges: what may this process do, and what does a mount do without root?
//
// A mount by an ordinary user is made and unmounted through fusermount3 and serves only that
// user. It cannot open files by handle, so it keeps a descriptor of every file that the kernel
// knows.
#pragma once

#include <string>
#include <vector>

namespace epochfs::fs {

// Whether this thread has a capability (CAP_...). Each thread reads its own once, and then follows
// what this program itself changes.
bool has_capability(unsigned capability);

// Whether this process can make a mount with everything that root gets.
bool is_privileged();

// What a mount without root lacks, one line each, to be shown when it starts.
std::vector<std::string> what_users_go_without(int descriptor_limit);

// Where the state is unless it is named: for root a system directory, for others one in their
// home.
std::string default_state_dir();

// Unmounts with umount2(2), or with fusermount3 where that is not allowed. lazy: as MNT_DETACH.
// 0 or -errno; -EPERM also when fusermount3 is missing or refuses.
int unmount_path(const std::string& path, bool lazy);

}  // namespace epochfs::fs
