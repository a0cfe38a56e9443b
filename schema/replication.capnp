# What a source says to a target. This file is the contract; DESIGN terms apply.
#
# A connection is a TCP stream (TLS later wraps it) that carries Cap'n Proto RPC.
# The target exports ReplicationHost as its bootstrap capability; the source calls.
# Order of calls: hello, then propose until it is accepted, then open, which
# yields a Session, on which the source begins one Transfer at a time.
#
# Nothing here names a path on either host but the one in the Proposal: objects
# are addressed by FileId, and a name is one component inside a parent's FileId.
# A target must treat every field as hostile: every list, name and number has a
# maximum, stated at the field, and a call that breaks one fails as a whole.
#
# A failure that the peer can act on is a value (Outcome). An RPC exception means
# that the connection is of no more use.
@0xd2f1c0a5be1e7a01;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("epochfs::rpc");

const protocolVersion :UInt32 = 1;

const maxNameBytes :UInt32 = 255;
const maxXattrBytes :UInt32 = 65536;      # one value
const maxNodesInBatch :UInt32 = 4096;
const maxNamesInBatch :UInt32 = 8192;
const maxBlockBytes :UInt32 = 1048576;    # uncompressed bytes of one Block
const maxMessageBytes :UInt32 = 4194304;  # of one call; a sender stays well below
const maxPathBytes :UInt32 = 4096;
const maxTextBytes :UInt32 = 1024;        # host names and reasons

struct FileId {
  # Identity of a file on the source: never reused. The source's own numbers; to
  # the target they are opaque. {0, 0} means no file.
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
  # All that a file is besides its bytes and its names.
  mode @0 :UInt32;   # as st_mode, type included
  uid @1 :UInt32;
  gid @2 :UInt32;
  rdev @3 :UInt64;   # of devices: (major << 32) | minor
  links @4 :UInt32;
  size @5 :UInt64;
  atime @6 :Time;
  mtime @7 :Time;
  ctime @8 :Time;    # cannot be set on the target; kept to compare with later
  xattrs @9 :List(Xattr);     # ACLs are among them
  symlinkTarget @10 :Data;    # of symbolic links, 1 to maxPathBytes - 1
}

struct Node {
  # One file, of any type, as the epoch holds it.
  id @0 :FileId;
  attributes @1 :Attributes;

  content :union {
    none @2 :Void;
    # The bytes of the file have not changed (or it is no regular file).
    whole @3 :Void;
    # The file is new, or its old bytes are not to be trusted: blocks for all of
    # it follow. What no block covers is zeros.
    ranges @4 :Void;
    # The file is on the target already; blocks follow for what has changed.
  }

  version @5 :UInt64;
  # Equal versions of one file mean equal bytes: the LSN of the newest record that
  # touched them. 0: unknown; then size, mtime and ctime take its place.

  fresh @6 :Bool;
  # It came to be within this transfer's range: if the target holds something
  # under this id, that is another file, and goes.
}

struct Need {
  # The answer to one Node with content, by its index in the batch.
  index @0 :UInt32;
  resumeAt @1 :UInt64;
  # Blocks that end at or before this offset are here already.
  # 0xffffffffffffffff: nothing is needed.
}

struct Name {
  parent @0 :FileId;
  name @1 :Data;        # 1 to maxNameBytes, no '/' nor NUL, not "." or ".."
  child @2 :FileId;     # {0, 0}: the name is gone
}

struct Block {
  # Bytes of a file, from one offset on.
  id @0 :FileId;
  offset @1 :UInt64;
  length @2 :UInt64;    # uncompressed; a hole may be of any length
  payload :union {
    raw @3 :Data;
    lz4 @4 :Data;       # one LZ4 block that decodes to exactly `length` bytes
    hole @5 :Void;      # zeros, without storage
  }
}

struct HostInfo {
  name @0 :Text;        # for people
  software @1 :Text;    # "epochfs 1.2.3"
}

struct Proposal {
  relationship @0 :Text;   # its id: 12 lower-case hex digits, made by the source
  lineage @1 :Data;        # 16 bytes
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
}

enum Decision {
  pending @0;      # filed; waits for the target's administrator
  accepted @1;
  declined @2;
  deleted @3;      # was accepted once, and was ended on the target
  refused @4;      # cannot be filed (too many, malformed); the reason says why
}

struct Outcome {
  # ok, or a reason that a person can act on.
  union {
    ok @0 :Void;
    failed @1 :Text;
    unknownState @2 :Text;
    # The target does not hold what the source believes: a full transfer is due.
    targetLost @3 :Text;
    # The target directory vanished or is not the one that was accepted. Nothing
    # will be written until an administrator has looked.
  }
}

struct TargetState {
  cursor @0 :UInt64;        # newest epoch that is applied and durable; 0: none
  stateHash @1 :UInt64;     # of the chain of epochs that led there; 0 with cursor 0
  barrierTimeNs @2 :UInt64; # recovery point, on the source's clock
  stagedBase @3 :UInt64;
  # Where an interrupted full transfer began (Plan.walkSince), so that it can go
  # on; 0: none is staged.
}

interface ReplicationHost {
  hello @0 (protocol :UInt32, host :HostInfo) -> (protocol :UInt32, host :HostInfo);
  # First call. Each side states the newest protocol that it speaks; the lower one
  # is spoken. A side that cannot says so and ends the connection.

  propose @1 (proposal :Proposal) -> (decision :Decision, reason :Text);
  # Files a request, or asks what became of it. All that a peer can do that the
  # administrator did not accept.

  open @2 (proposal :Proposal) -> (outcome :Outcome, session :Session, state :TargetState);
  # For an accepted relationship. A later open ends the earlier session.

  awaitDecision @3 (proposal :Proposal) -> (decision :Decision, reason :Text);
  # As propose, but returns only when the decision is no longer pending.

  end @4 (proposal :Proposal, reason :Text) -> ();
  # The source's administrator has ended the relationship. The data stays.
}

struct Plan {
  epoch @0 :UInt64;          # that the target will hold
  base @1 :UInt64;           # that it holds now; must be TargetState.cursor
  barrierTimeNs @2 :UInt64;
  stateHash @3 :UInt64;      # that the target will have
  full @4 :Bool;
  # true: names() lists whole directories, and what is not listed goes. The
  # baseline, and every reconciliation. false: names() says what has changed.
  walkSince @5 :UInt64;
  # Of a full transfer: the epoch whose seal came before the walk began. A stage
  # with another walkSince is thrown away; one with the same goes on.
  root @6 :FileId;           # of the source directory itself
}

interface Session {
  begin @0 (plan :Plan) -> (outcome :Outcome, transfer :Transfer);
  # One at a time: an earlier transfer that was not committed is superseded; what
  # is staged of it stays and is offered again by Need.
}

interface Transfer {
  nodes @0 (nodes :List(Node)) -> (needs :List(Need));
  # Files to be. needs has an entry only where something is here already. A node
  # sent again replaces the earlier one.

  blocks @1 (blocks :List(Block)) -> ();
  # Bytes of nodes that were announced. In ascending order of offset within a file.

  names @2 (names :List(Name)) -> ();
  # Later calls win over earlier ones. May name children that are announced later.

  listed @3 (directories :List(FileId)) -> ();
  # Full transfers: all names of these directories have been sent; what the target
  # holds in them besides is to go.

  commit @4 (plan :Plan) -> (outcome :Outcome, state :TargetState);
  # Everything has been sent. Returns when the tree holds the epoch, durably. The
  # plan is begin's, except that a full transfer names its epoch, barrier time
  # and state hash only now.

  forget @5 (files :List(FileId)) -> ();
  # These were announced in this transfer and turned out not to exist at its
  # epoch: their staged bytes go.
}
