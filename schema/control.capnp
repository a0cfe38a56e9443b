# What commands say to the processes of their own host, over unix sockets: to the
# daemon (Daemon) and to a mount (Mount). Structs that listings print carry the
# names of their --json form: 64-bit numbers come out as strings there.
@0xa7c3e2b15d94f602;

using Cxx = import "/capnp/c++.capnp";
using Json = import "/capnp/compat/json.capnp";
$Cxx.namespace("epochfs::rpc");

struct Failure {
  # An error that a command prints: "verb object: reason; remedy".
  message @0 :Text;
  status @1 :UInt8;   # exit status of the command
}

# ---- the mount ----

interface PinnedEpoch {
  # What the sealed epoch held stays readable until this is dropped. getFd(): the
  # pre-image log.
  release @0 () -> ();
  confirm @1 () -> ();
  # Returns while it is held: what was read until now is what the epoch held, as long as
  # the log does not say that it was given up. Fails once it is not, or the mount has gone.
  passed @2 (inode :UInt64, birthNs :UInt64, offset :UInt64) -> ();
  # Its reader goes through the files by ascending inode, then birth time, and through each
  # by ascending offset, and has read everything before this. What is overwritten there is
  # not saved any more.
}

interface BackingDirectory {
  # getFd(): the root of the backing directory.
}

struct MountInfo {
  mountpoint @0 :Text;
  backing @1 :Text;
  journal @2 :Text;
  lineage @3 :Text;
  pid @4 :UInt32;
  openEpoch @5 :UInt64;
  recordsInOpenEpoch @6 :UInt64;
  recordsLost @7 :UInt64;
  lastBarrierPauseNs @8 :UInt64;
  maxBarrierPauseNs @9 :UInt64;
  journalBytes @10 :UInt64;
  features @11 :List(Text);   # in force: "io_uring", "passthrough", ...
  missing @12 :List(Text);    # "io_uring: the fuse module's enable_uring is off", ...
  barriers @13 :UInt64;
  barriersCalledOff @14 :UInt64;
  inodes @15 :UInt64;         # known to the kernel
  openFiles @16 :UInt64;      # of applications, directories too
  descriptors @17 :UInt64;    # that the process has open,
  descriptorLimit @18 :UInt64; # and may have
  residentBytes @19 :UInt64;  # of the process's memory
  awakeNs @20 :UInt64;        # for so long idle cores were kept from halting
  mountedNs @21 :UInt64;      # when
  p99BarrierPauseNs @22 :UInt64; # of the last thousand barriers
  maxBarrierDrainNs @23 :UInt64; # until operations under way had ended,
  maxBarrierCutNs @24 :UInt64;   # and for the cut itself
  longPauses @25 :List(LongPause); # over 50 ms: the newest ones and the longest, oldest first

  struct LongPause {
    timeNs @0 :UInt64;        # when it ended
    pauseNs @1 :UInt64;
    drainNs @2 :UInt64;
    cutNs @3 :UInt64;
    calledOff @4 :Bool;
    waitedFor @5 :Text;       # "write of inode 12 by pid 34"
  }
  space @26 :JournalSpace;
}

struct JournalSpace {
  # What the journal takes up, and what want of room has made of it.
  quotaBytes @0 :UInt64;      # for the three together; 0: none
  segmentBytes @1 :UInt64;
  checkpointBytes @2 :UInt64;
  preImageBytes @3 :UInt64;
  checkpoints @4 :UInt64;     # how many
  pressure @5 :Text;          # none, near its quota, coarser extents, whole files, subtrees, whole tree
  pressureSinceNs @6 :UInt64;
  blocking @7 :Bool;          # applications wait for room
  error @8 :Text;             # why the last look did not do all it wanted; empty: it did
}

interface Mount {
  info @0 () -> (info :MountInfo);
  backing @1 () -> (directory :BackingDirectory);

  barrier @2 (onlyIfChanged :Bool, timeoutMs :UInt32, label :Text)
      -> (epoch :UInt64, barrierTimeNs :UInt64, failure :Failure);
  # Seals the open epoch and returns when it is durable. With onlyIfChanged and
  # nothing recorded since the last seal: the newest sealed epoch, no new one. A label
  # is of an epoch of its own: with one, onlyIfChanged counts for nothing. An epoch and
  # a failure: the epoch is sealed and durable, and its label is not.

  barrierAndPin @3 (since :UInt64, onlyIfChanged :Bool, timeoutMs :UInt32)
      -> (epoch :UInt64, barrierTimeNs :UInt64, pin :PinnedEpoch, failure :Failure);
  # As barrier, and from its very moment on keeps pre-images of all that changed in
  # (since, epoch]. since is a cursor in cursors/. With onlyIfChanged and nothing
  # recorded since `since`: epoch = since and no pin.

  cursorsChanged @4 () -> ();
  # The daemon moved, made or removed a file in cursors/.
}

# ---- the daemon ----

struct Blackout {
  days @0 :List(Text);    # "MON" ... "SUN": the days on which it begins
  start @1 :Text;         # "HH:MM"
  end @2 :Text;           # "HH:MM", "24:00" allowed; before start: next day
}

enum Role {
  source @0;
  target @1;
}

struct Relationship {
  # As kept in <state>/relationships/<id>.json, and as `relationship show` prints it.
  id @0 :Text;
  role @1 :Role;
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
  peer @4 :Text;            # source: the target's address; target: where the proposal came from
  port @5 :UInt16;
  enabled @6 :Bool = true;
  blackouts @7 :List(Blackout);
  timeZone @8 :Text;        # IANA name
  lineage @9 :Text;
  createdNs @10 :UInt64;
  intervalMs @11 :UInt32 = 1000;   # from one epoch to the next, while there are changes; 100 to 86,400,000

  decision @12 :Text;       # pending, accepted, declined, deleted; of the target, as known here
  ended @13 :Text;          # why it is over; empty: it is not

  # Source: what the target was last known to hold.
  cursor @14 :UInt64;
  stateHash @15 :UInt64;
  barrierTimeNs @16 :UInt64;
  walkSince @17 :UInt64;    # a full transfer that began there is not committed yet; 0: none
  replaceContents @18 :Bool; # target: accepted although the directory was not empty
  established @19 :Bool;     # target: a session was opened before, so an empty directory is a lost one
}

struct Status {
  id @0 :Text;
  role @1 :Role;
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
  peer @4 :Text;
  state @5 :Text;           # the first match of the design's list, words and case as there
  detail @6 :Text;          # reason, until when, percent, time left
  recoveryEpoch @7 :UInt64; # 0: none yet
  recoveryTimeNs @8 :UInt64;
  sealedEpoch @9 :UInt64;   # newest known on the source
  filesSent @10 :UInt64;    # since the daemon started, as are the next
  bytesRead @11 :UInt64;
  bytesSent @12 :UInt64;    # on the wire
  epochsSent @13 :UInt64;
  percent @14 :Float32;     # of the transfer under way; -1: none
  secondsLeft @15 :Int64;   # -1: unknown
  lastError @16 :Text;

  # Source: the last comparison of everything with the target, or the one under way; a
  # first copy is one with nothing. Since the daemon started; comparedBeganNs 0: none.
  comparedBeganNs @17 :UInt64;
  comparedEndedNs @18 :UInt64;   # 0: it is under way, or was broken off and will go on
  comparedReason @19 :Text;      # why everything is compared
  filesCompared @20 :UInt64;     # regular ones
  filesDiffered @21 :UInt64;     # of those, by size, mtime or ctime
  comparedBytesSent @22 :UInt64; # on the wire

  space @23 :JournalSpace;       # source: of the mount, where it answers
}

interface Daemon {
  info @0 () -> (pid :UInt32, listen :Text, stateDir :Text, console :Text);
  create @1 (relationship :Relationship) -> (id :Text, failure :Failure);
  list @2 () -> (relationships :List(Relationship));
  authorize @3 (id :Text, replaceContents :Bool) -> (failure :Failure);
  decline @4 (id :Text) -> (failure :Failure);
  enable @5 (id :Text, enabled :Bool) -> (failure :Failure);
  edit @6 (id :Text, change :Edit) -> (failure :Failure);
  remove @7 (id :Text) -> (failure :Failure, warning :Text);
  replicate @8 (id :Text) -> (failure :Failure);
  status @9 (id :Text) -> (statuses :List(Status), failure :Failure);  # empty id: all
  wait @10 (id :Text, epoch :UInt64, idle :Bool, timeoutMs :UInt64) -> (failure :Failure);
  # epoch 0 without idle: the first recovery point. idle: all that changed before
  # the call is on the target. timeoutMs 0: there is no limit.
}

struct Edit {
  targetAddress @0 :Text;      # empty: unchanged
  port @1 :UInt16;             # 0: unchanged
  setBlackouts @2 :Bool;
  blackouts @3 :List(Blackout);
  timeZone @4 :Text;           # empty: unchanged
  intervalMs @5 :UInt32;       # 0: unchanged
}

# ---- listings ----

struct JournalEntry {
  # One line of `epochfs journal list`, `follow` and `show` with --json. journal/FORMAT.md
  # says what the operations mean.
  lsn @0 :UInt64;
  timeNs @1 :UInt64;
  epoch @2 :UInt64;
  operation @3 :Text;
  inode @4 :UInt64;
  birthNs @5 :UInt64;
  uid @6 :UInt32;
  gid @7 :UInt32;
  pid @8 :UInt32;
  offset @9 :UInt64;
  length @10 :UInt64;
  mode @11 :UInt32;               # st_mode, or flags: as the operation has it
  parentInode @12 :UInt64;
  name @13 :Text;                 # in that directory, or an xattr's; escaped where it is not printable UTF-8
  nameBase64 @14 :Data $Json.base64;   # only where it is not UTF-8
  newParentInode @15 :UInt64;
  newName @16 :Text;
  newNameBase64 @17 :Data $Json.base64;
  time @18 :Text;                 # timeNs at UTC, ISO 8601
  path @19 :Text;                 # from the volume's root, as it was then; escaped. "." is the root
  pathBase64 @20 :Data $Json.base64;
  newPath @21 :Text;              # of a rename
  newPathBase64 @22 :Data $Json.base64;
  pathKnown @23 :Bool;            # false: path or newPath begins with #INODE
  pathGone @24 :Bool;             # the file had no name any more: path is its last one
  toEnd @25 :Bool;                # the range reaches to the end of the file, wherever that is
  detail @26 :Text;               # as in the column DETAIL
  otherInode @27 :UInt64;         # of a rename: what was in its way
  command @28 :Text;              # of the process, where it still runs; escaped
}

struct JournalSummary {
  # One line of `epochfs journal list --summary --json`.
  path @0 :Text;                  # by path; escaped
  pathBase64 @1 :Data $Json.base64;
  uid @2 :UInt32;                 # by writer
  pid @3 :UInt32;
  operation @4 :Text;             # by type
  records @5 :UInt64;
  bytes @6 :UInt64;               # lengths of its writes, summed up
  firstTimeNs @7 :UInt64;
  lastTimeNs @8 :UInt64;
}

struct JournalEpoch {
  # One line of `epochfs journal epochs --json`.
  epoch @0 :UInt64;
  state @1 :Text;                 # open, sealed, released
  barrierTimeNs @2 :UInt64;       # 0: open
  barrierTime @3 :Text;           # at UTC, ISO 8601
  beginLsn @4 :UInt64;
  sealLsn @5 :UInt64;
  records @6 :UInt64;
  net @7 :Net;                    # none: not asked for, or its records are no longer there
  relationships @8 :List(At);
  label @9 :Text;                 # as given to `epochfs barrier`; empty: none

  struct Net {
    names @0 :UInt64;             # that mean something else now
    files @1 :UInt64;             # whose bytes or attributes changed
    bytes @2 :UInt64;             # written, and neither overwritten, cut off nor removed since
    gap @3 :Bool;                 # records are missing: anything may have changed
  }
  struct At {
    id @0 :Text;
    replicated @1 :Bool;          # the epoch is durable at its target
  }
}

struct JournalStat {
  # `epochfs journal stat --json`.
  journal @0 :Text;
  lineage @1 :Text;
  backing @2 :Text;               # path as it was when the volume was made
  createdNs @3 :UInt64;
  state @4 :Text;                 # mounted, clean, unclean, new
  holder @5 :UInt32;              # process id of the mount; 0: none
  segments @6 :UInt64;
  segmentBytes @7 :UInt64;        # of each
  fileBytes @8 :UInt64;           # of all segment files
  usedBytes @9 :UInt64;           # of all records, padding left out
  oldestLsn @10 :UInt64;
  newestLsn @11 :UInt64;
  oldestTimeNs @12 :UInt64;
  newestTimeNs @13 :UInt64;
  records @14 :UInt64;
  bytesPerRecord @15 :Float64;
  byType @16 :List(OfType);
  sealedEpochs @17 :UInt64;
  openEpoch @18 :UInt64;
  recordsInOpenEpoch @19 :UInt64;
  slotsFilled @20 :UInt64;        # of the in-flight file
  recordsLost @21 :Bool;          # and no gap says so yet
  preImageBytes @22 :UInt64;      # in files: logs of living pins have no name
  checkpoints @23 :UInt64;        # how many
  checkpointBytes @24 :UInt64;

  struct OfType {
    operation @0 :Text;
    records @1 :UInt64;
    bytes @2 :UInt64;
  }
}

struct JournalFinding {
  # One line of `epochfs journal verify --json`.
  file @0 :Text;                  # below the journal's folder
  offset @1 :UInt64;
  lsn @2 :UInt64;                 # 0: it is not in the log
  bytes @3 :UInt64;
  severity @4 :Text;              # damage, note
  problem @5 :Text;
  lost @6 :Text;
  remedy @7 :Text;
}
