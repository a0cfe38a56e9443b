# What does a source say to a target? This file is the contract between two hosts. README.md says
# what may change in it. replicator/DESIGN.md says why it is as it is.
#
# A connection is a TCP stream that carries Cap'n Proto RPC. The target exports ReplicationHost as
# its bootstrap capability, and the source calls it. The order of calls is: hello; propose, then
# awaitDecision while the decision is pending; open, which returns a Session. On a Session the
# source begins one Transfer at a time.
#
# Only the Proposal contains paths. Everywhere else a FileId addresses a file, and a name is one
# component inside the directory that a FileId addresses.
#
# A target must treat every field as hostile. Every list, name and number has a maximum, stated at
# its field. A call that breaks a rule fails as a whole and changes nothing.
#
# A failure that the peer can act on is a value (Outcome). After an RPC exception the source gives
# up the connection.
@0xd2f1c0a5be1e7a01;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("epochfs::rpc");

const protocolVersion :UInt32 = 1;

const maxNameBytes :UInt32 = 255;
const maxXattrBytes :UInt32 = 65536;      # one value
const maxNodesInBatch :UInt32 = 4096;
const maxNamesInBatch :UInt32 = 8192;
const maxBlockBytes :UInt32 = 1048576;    # uncompressed bytes of one Block
const maxMessageBytes :UInt32 = 4194304;  # of one call; senders stay well below
const maxPathBytes :UInt32 = 4096;
const maxTextBytes :UInt32 = 1024;        # host names and reasons

const nothingNeeded :UInt64 = 0xffffffffffffffff;  # a value of Need.resumeAt

struct FileId {
  # The identity of a file on the source. It is never reused. The numbers are the source's; to the
  # target they are opaque. {0, 0} means no file.
  inode @0 :UInt64;
  birthNs @1 :UInt64;
}

struct Time {
  seconds @0 :Int64;  # since 1970, may be negative
  nanos @1 :UInt32;   # 0 to 999,999,999
}

struct Xattr {
  name @0 :Data;   # 1 to maxNameBytes, no NUL
  value @1 :Data;
}

struct Attributes {
  # Everything about a file except its bytes and its names.
  mode @0 :UInt32;   # as st_mode, including the type
  uid @1 :UInt32;
  gid @2 :UInt32;
  rdev @3 :UInt64;   # devices: (major << 32) | minor
  links @4 :UInt32;
  size @5 :UInt64;
  atime @6 :Time;
  mtime @7 :Time;
  ctime @8 :Time;    # cannot be set on the target, which keeps it for later comparisons
  xattrs @9 :List(Xattr);     # including ACLs; all names together at most 65536 bytes
  symlinkTarget @10 :Data;    # symbolic links: 1 to maxPathBytes - 1 bytes, no NUL
}

struct Node {
  # One file, of any type, as it is at the epoch.
  id @0 :FileId;
  attributes @1 :Attributes;

  content :union {
    none @2 :Void;
    # The bytes have not changed, or the file is not a regular file.
    whole @3 :Void;
    # The file is new, or its old bytes cannot be trusted. Blocks for all of it follow. Bytes that
    # no block covers are zeros.
    ranges @4 :Void;
    # The target has the file already. Blocks follow for the bytes that have changed.
  }

  version @5 :UInt64;
  # Names the newest change of the bytes: equal versions of one file mean equal bytes, also after a
  # host was put back to a snapshot. Only equality means anything. 0: unknown; then size, mtime and
  # ctime are compared instead.

  fresh @6 :Bool;
  # The file was created in the epochs that this transfer covers. If the target holds something
  # under this id, that is a different file, and goes.
}

struct Need {
  # Which bytes of one announced Node are needed.
  index @0 :UInt32;     # of the Node in its batch
  resumeAt @1 :UInt64;
  # The target has everything before this offset already. nothingNeeded: it has all.
}

struct Name {
  parent @0 :FileId;
  name @1 :Data;        # 1 to maxNameBytes, no '/' nor NUL, not "." or ".."
  child @2 :FileId;     # {0, 0}: the name is gone
}

struct Block {
  # Consecutive bytes of a file.
  id @0 :FileId;
  offset @1 :UInt64;
  length @2 :UInt64;    # uncompressed, at least 1; at most maxBlockBytes, except for a hole
  payload :union {
    raw @3 :Data;
    lz4 @4 :Data;       # one LZ4 block that decodes to exactly `length` bytes
    hole @5 :Void;      # zeros without storage
  }
}

struct HostInfo {
  name @0 :Text;        # for people
  software @1 :Text;    # "epochfs 1.2.3"
}

struct Proposal {
  relationship @0 :Text;   # its id: 12 lower-case hex digits, chosen by the source
  lineage @1 :Data;        # 16 bytes
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
}

enum Decision {
  pending @0;      # filed; waits for the target's administrator
  accepted @1;
  declined @2;
  deleted @3;      # was accepted, and then deleted on the target
  refused @4;      # cannot be filed: too many, malformed; the reason says why
}

struct Outcome {
  # ok, or a failure with a reason for people, at most maxTextBytes.
  union {
    ok @0 :Void;
    failed @1 :Text;
    # It may succeed later.
    unknownState @2 :Text;
    # The target does not hold what the source believes. A full transfer is due.
    targetLost @3 :Text;
    # The target directory vanished, or is not the one that was accepted. The target writes nothing
    # until an administrator has looked.
  }
}

struct TargetState {
  cursor @0 :UInt64;        # the newest epoch that is applied and durable; 0: none
  stateHash @1 :UInt64;
  # Plan.stateHash of the last commit; 0 if cursor is 0. Only the source knows how it is made.
  barrierTimeNs @2 :UInt64; # the recovery point, on the source's clock
  stagedBase @3 :UInt64;
  # Plan.walkSince of an interrupted full transfer that can be resumed. 0: none is staged.
}

interface ReplicationHost {
  hello @0 (protocol :UInt32, host :HostInfo) -> (protocol :UInt32, host :HostInfo);
  # The first call. Each side states its protocolVersion. If they differ, the source ends the
  # connection, with an error that names both. (README.md: no side speaks two versions yet.)

  propose @1 (proposal :Proposal) -> (decision :Decision, reason :Text);
  # Files a request, or asks what was decided. Until the administrator has accepted it, propose,
  # awaitDecision and end are all that a peer can do.

  open @2 (proposal :Proposal) -> (outcome :Outcome, session :Session, state :TargetState);
  # Opens a session of an accepted relationship. It ends an earlier session of the relationship.
  # Before it returns, the target applies an epoch that was committed but not applied.

  awaitDecision @3 (proposal :Proposal) -> (decision :Decision, reason :Text);
  # Like propose, but returns only when the decision is no longer pending.

  end @4 (proposal :Proposal, reason :Text) -> ();
  # The source's administrator has ended the relationship. The target keeps the data.
}

struct Plan {
  epoch @0 :UInt64;          # the epoch that the target will hold
  base @1 :UInt64;           # the epoch that it holds now; must be TargetState.cursor, unless full
  barrierTimeNs @2 :UInt64;  # of `epoch`
  stateHash @3 :UInt64;
  # Names the state afterwards, and the chain of epochs that leads there. The target keeps it.
  full @4 :Bool;
  # true (the baseline and every reconciliation): names() and listed() list whole directories, and
  # what is not listed goes. false: names() says what has changed.
  walkSince @5 :UInt64;
  # Full transfers: the epoch that was sealed before the walk began. A stage with the same
  # walkSince is resumed, one with another is discarded.
  root @6 :FileId;           # the source directory itself
}

interface Session {
  begin @0 (plan :Plan) -> (outcome :Outcome, transfer :Transfer);
  # Begins a transfer, and ends an earlier one that was not committed. What is staged of that one
  # stays if this plan can use it; Need says which bytes.
}

interface Transfer {
  nodes @0 (nodes :List(Node)) -> (needs :List(Need));
  # Announces files. needs has an entry only for a node of which the target has bytes already; all
  # bytes of the others are needed. A node sent again replaces the earlier one. At most
  # maxNodesInBatch.

  blocks @1 (blocks :List(Block)) -> ();
  # Bytes of announced nodes. Offsets ascend within a file. At most maxNamesInBatch blocks, which
  # decode to at most 64 MiB.

  names @2 (names :List(Name)) -> ();
  # What names mean now. A later call overrides an earlier one. A child may be announced later. At
  # most maxNamesInBatch.

  listed @3 (directories :List(FileId)) -> ();
  # Full transfers only: all names of these directories have been sent. Other names that the target
  # holds there go. At most maxNamesInBatch.

  commit @4 (plan :Plan) -> (outcome :Outcome, state :TargetState);
  # Everything has been sent. Returns when the target directory holds the epoch durably. The plan is
  # begin's, except that a full transfer sets epoch, barrier time and state hash only now.

  forget @5 (files :List(FileId)) -> ();
  # These files were announced in this transfer, but turned out not to exist at its epoch. Their
  # staged bytes are discarded. At most maxNamesInBatch.
}
