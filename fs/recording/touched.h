// Touched: what is a mutation about to change of one file? What an operation says to the
// recorder, and the recorder to the pins.
#pragma once

#include "journal/base/types.h"

namespace epochfs::fs {

struct Touched {
  FileId id;
  FileHandle handle;
  // Descriptor of the file (O_PATH is enough) if one is at hand; else -1 and the
  // recorder opens it by handle, only where a pre-image is due.
  int fd = -1;
  // Bytes that change; empty: attributes or names only.
  ByteRange data;
  // This mutation may remove the file's last name.
  bool vanishing = false;
  // The bytes go, and none are written in their place.
  bool frees = false;
};

}  // namespace epochfs::fs
