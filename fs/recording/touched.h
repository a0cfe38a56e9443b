// Touched: what is a mutation about to change of one file? Operations tell the recorder, and the
// recorder tells the pins.
#pragma once

#include "journal/base/types.h"

namespace epochfs::fs {

struct Touched {
  FileId id;
  FileHandle handle;
  // A descriptor of the file (O_PATH is enough), or -1. Then the file is opened by handle, but only
  // if a pre-image is due.
  int fd = -1;
  // Bytes that change; empty: attributes or names only.
  ByteRange data;
  // This mutation may remove the file's last name.
  bool vanishing = false;
  // The bytes are removed, and none are written in their place.
  bool frees = false;
};

}  // namespace epochfs::fs
