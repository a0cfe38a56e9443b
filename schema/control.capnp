# What do commands say to the processes of their own host? They talk over unix sockets to the daemon
# (Daemon) and to a mount (Mount). The daemon talks to mounts, too. README.md says what may change.
#
# Field names of the structs that listings print are the keys of their --json form. 64-bit numbers
# are strings there.
@0xa7c3e2b15d94f602;

using Cxx = import "/capnp/c++.capnp";
using Json = import "/capnp/compat/json.capnp";
$Cxx.namespace("epochfs::rpc");

struct Failure {
  # An error for a command to print. No message: there is no failure.
  message @0 :Text;   # "verb object: reason; remedy"
  status @1 :UInt8;   # exit status of the command
}

# ---- the mount ----

interface PinnedEpoch {
  # Keeps the content of a sealed epoch readable until this capability is dropped. getFd(): the
  # pre-image log.
  release @0 () -> ();
  confirm @1 () -> ();
  # Returns if the epoch is still pinned: then everything read so far is what the epoch held, unless
  # the log says that it was given up. Fails if it is no longer pinned or the mount has ended.
  passed @2 (inode :UInt64, birthNs :UInt64, offset :UInt64) -> ();
  # The reader has read everything before this place. It reads files by ascending inode, then birth
  # time, and each file by ascending offset. The mount no longer saves what is overwritten there.
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
  openFiles @16 :UInt64;      # of applications, including directories
  descriptors @17 :UInt64;    # that the process has open
  descriptorLimit @18 :UInt64; # that it may have open
  residentBytes @19 :UInt64;  # memory of the process
  awakeNs @20 :UInt64;        # how long idle cores were kept from halting
  mountedNs @21 :UInt64;      # when it was mounted
  p99BarrierPauseNs @22 :UInt64; # of the last thousand barriers
  maxBarrierDrainNs @23 :UInt64; # the wait for operations under way
  maxBarrierCutNs @24 :UInt64;   # the cut itself
  longPauses @25 :List(LongPause); # over 50 ms: the newest and the longest, oldest first

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
  # How much space the journal uses, and what it has given up for want of space.
  quotaBytes @0 :UInt64;      # for segments, checkpoints and pre-images together; 0: none
  segmentBytes @1 :UInt64;
  checkpointBytes @2 :UInt64;
  preImageBytes @3 :UInt64;
  checkpoints @4 :UInt64;     # how many
  pressure @5 :Text;
  # "none", "near its quota", "coarser extents", "whole files", "subtrees" or "whole tree".
  pressureSinceNs @6 :UInt64;
  blocking @7 :Bool;          # applications wait for space
  error @8 :Text;             # why the last check could not do everything; empty: it could
}

interface Mount {
  info @0 () -> (info :MountInfo);
  backing @1 () -> (directory :BackingDirectory);

  barrier @2 (onlyIfChanged :Bool, timeoutMs :UInt32, label :Text)
      -> (epoch :UInt64, barrierTimeNs :UInt64, failure :Failure);
  # Seals the open epoch, and returns its number when it is durable. With onlyIfChanged, and if
  # nothing was recorded since the last seal, it returns the newest sealed epoch instead. A label
  # always gets an epoch of its own, even with onlyIfChanged. If both an epoch and a failure come
  # back, the epoch is sealed and durable but its label is not.

  barrierAndPin @3 (since :UInt64, onlyIfChanged :Bool, timeoutMs :UInt32)
      -> (epoch :UInt64, barrierTimeNs :UInt64, pin :PinnedEpoch, failure :Failure);
  # Like barrier. From that very moment on, the mount keeps pre-images of everything that changed in
  # (since, epoch]. since is a cursor in cursors/. With onlyIfChanged, and if nothing was recorded
  # since `since`, it returns epoch = since and no pin.

  cursorsChanged @4 () -> ();
  # The daemon changed, created or removed a file in cursors/.
}

# ---- the daemon ----

struct Blackout {
  days @0 :List(Text);    # "MON" ... "SUN": the days on which the window begins
  start @1 :Text;         # "HH:MM"
  end @2 :Text;           # "HH:MM", "24:00" allowed; before start: on the next day
}

enum Role {
  source @0;
  target @1;
  unknown @2;  # of a damaged relationship only
}

struct Relationship {
  # Stored in <state>/relationships/<id>.json, and printed by `relationship show --json`.
  id @0 :Text;
  role @1 :Role;
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
  peer @4 :Text;            # source: the target's address; target: the proposal's origin
  port @5 :UInt16;
  enabled @6 :Bool = true;
  blackouts @7 :List(Blackout);
  timeZone @8 :Text;        # IANA name
  lineage @9 :Text;
  createdNs @10 :UInt64;
  intervalMs @11 :UInt32 = 1000;   # between epochs while there are changes; 100 to 86,400,000

  decision @12 :Text;
  # The target's, as known here: pending, accepted, declined, deleted. In a list only: damaged.
  ended @13 :Text;
  # Why the relationship has ended. Empty: it has not. Damaged: what is wrong, and what to do.

  # Source: what the target was last known to hold.
  cursor @14 :UInt64;
  stateHash @15 :UInt64;
  barrierTimeNs @16 :UInt64;
  walkSince @17 :UInt64;    # a full transfer began there and is not committed yet; 0: none
  replaceContents @18 :Bool; # target: accepted although the directory was not empty
  established @19 :Bool;     # target: a session was opened before, so a missing directory is lost
}

struct Status {
  id @0 :Text;
  role @1 :Role;
  sourceDirectory @2 :Text;
  targetDirectory @3 :Text;
  peer @4 :Text;
  state @5 :Text;           # "Up to Date", "Damaged", ...; Damaged: only what its file tells is set
  detail @6 :Text;          # reason, until when, percent, time left
  recoveryEpoch @7 :UInt64; # 0: none yet
  recoveryTimeNs @8 :UInt64;
  sealedEpoch @9 :UInt64;   # the newest known on the source
  filesSent @10 :UInt64;    # this and the next three: since the daemon started
  bytesRead @11 :UInt64;
  bytesSent @12 :UInt64;    # on the wire
  epochsSent @13 :UInt64;
  percent @14 :Float32;     # of the transfer under way; -1: none
  secondsLeft @15 :Int64;   # -1: unknown
  lastError @16 :Text;

  # Source: the last comparison with the target since the daemon started, or the one under way. The
  # first copy counts as one. comparedBeganNs 0: there was none.
  comparedBeganNs @17 :UInt64;
  comparedEndedNs @18 :UInt64;   # 0: it is under way, or was interrupted and will resume
  comparedReason @19 :Text;      # why it was done
  filesCompared @20 :UInt64;     # regular files only
  filesDiffered @21 :UInt64;     # of these, in size, mtime or ctime
  comparedBytesSent @22 :UInt64; # on the wire

  space @23 :JournalSpace;       # source: the mount's journal, if the mount answers
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
  # Returns when the target holds the epoch. epoch 0: when it has its first recovery point. idle:
  # when everything that changed before the call is on the target. timeoutMs 0: no limit.
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
  mode @11 :UInt32;               # st_mode or flags, depending on the operation
  parentInode @12 :UInt64;
  name @13 :Text;                 # in that directory, or of an xattr; escaped if not printable UTF-8
  nameBase64 @14 :Data $Json.base64;   # only if it is not UTF-8
  newParentInode @15 :UInt64;
  newName @16 :Text;
  newNameBase64 @17 :Data $Json.base64;
  time @18 :Text;                 # timeNs in UTC, ISO 8601
  path @19 :Text;                 # from the volume's root, at that time; escaped. "." is the root
  pathBase64 @20 :Data $Json.base64;
  newPath @21 :Text;              # of a rename
  newPathBase64 @22 :Data $Json.base64;
  pathKnown @23 :Bool;            # false: path or newPath begins with #INODE
  pathGone @24 :Bool;             # the file had no name left: path is its last one
  toEnd @25 :Bool;                # the range extends to the end of the file, wherever that is
  detail @26 :Text;               # as in the column DETAIL
  otherInode @27 :UInt64;         # of a rename: what it replaced
  command @28 :Text;              # name of the process, if it still runs; escaped
}

struct JournalSummary {
  # One line of `epochfs journal list --summary --json`.
  path @0 :Text;                  # by path; escaped
  pathBase64 @1 :Data $Json.base64;
  uid @2 :UInt32;                 # by writer
  pid @3 :UInt32;
  operation @4 :Text;             # by type
  records @5 :UInt64;
  bytes @6 :UInt64;               # the sum of the lengths of its writes
  firstTimeNs @7 :UInt64;
  lastTimeNs @8 :UInt64;
}

struct JournalEpoch {
  # One line of `epochfs journal epochs --json`.
  epoch @0 :UInt64;
  state @1 :Text;                 # open, sealed, released
  barrierTimeNs @2 :UInt64;       # 0: open
  barrierTime @3 :Text;           # in UTC, ISO 8601
  beginLsn @4 :UInt64;
  sealLsn @5 :UInt64;
  records @6 :UInt64;
  net @7 :Net;                    # absent: not asked for, or the records are gone
  relationships @8 :List(At);
  label @9 :Text;                 # as given to `epochfs barrier`; empty: none

  struct Net {
    names @0 :UInt64;             # that mean something else now
    files @1 :UInt64;             # whose bytes or attributes changed
    bytes @2 :UInt64;             # written, and not overwritten, truncated or removed later
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
  backing @2 :Text;               # its path when the volume was made
  createdNs @3 :UInt64;
  state @4 :Text;                 # mounted, clean, unclean, new
  holder @5 :UInt32;              # process id of the mount; 0: none
  segments @6 :UInt64;
  segmentBytes @7 :UInt64;        # of each
  fileBytes @8 :UInt64;           # of all segment files
  usedBytes @9 :UInt64;           # of all records, without padding
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
  recordsLost @21 :Bool;          # records were lost, and no gap record says so yet
  preImageBytes @22 :UInt64;      # in named files; logs of active pins have no name
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
  lsn @2 :UInt64;                 # 0: the finding is not in the log
  bytes @3 :UInt64;
  severity @4 :Text;              # damage, note
  problem @5 :Text;
  lost @6 :Text;
  remedy @7 :Text;
}
