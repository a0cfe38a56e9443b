// Limits: which limits of the process that started it must not end a process of ours?
#pragma once

namespace epochfs {

// Lifts the limit on the size of files as far as allowed: a mount writes for all applications, a
// daemon for all hosts, and neither may fail by the limit of the shell that started it. What is
// still too large becomes an error of the write (EFBIG) instead of a signal that ends the process.
void allow_large_files();

}  // namespace epochfs
