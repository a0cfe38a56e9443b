// What nearly every file of the replicator includes of others, compiled once.
#include <capnp/message.h>
#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>
#include <kj/async-unix.h>

#include "journal/base/pch/common.h"
