#!/usr/bin/env python3
"""Are two directory trees the same, in everything that an application can tell?

Compares names, types, modes, owners, sizes, contents, nanosecond mtimes, xattrs and ACLs, device numbers, symlink
targets, link counts, hard-link groups, holes and allocated blocks. Not atime, ctime and inode numbers, which no copy
can keep. It shares no code with epochfs and asks it nothing. Names are bytes throughout.

Exit status: 0 the same, 1 not, with the first differences on stdout, 2 usage or unreadable.
"""
import argparse
import os
import stat
import sys

CHUNK = 1 << 20
READ_WHOLE = 1 << 30  # the largest file of which holes are read as well, rather than believed


def walk(root):
    """Yields (path relative to root, lstat), parents first, the root itself as b'.'. Does not leave its file system."""
    status = os.lstat(os.path.join(root, b"."))
    device = status.st_dev
    pending = [(b".", status)]
    while pending:
        path, status = pending.pop()
        yield path, status
        if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
            with os.scandir(os.path.join(root, path)) as entries:
                for entry in entries:
                    # Not entry.stat(): what a name looks up to must be what its own lstat says.
                    name = entry.name if path == b"." else os.path.join(path, entry.name)
                    pending.append((name, os.lstat(os.path.join(root, name))))


def xattrs(path):
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}


def data_ranges(fd, size):
    """The [begin, end) ranges that are not holes."""
    ranges, at = [], 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            break
        at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        ranges.append((begin, at))
    return ranges


def only_in_one(a, b):
    """The ranges that are data in exactly one of the two."""
    edges = sorted([edge for r in a for edge in r] + [edge for r in b for edge in r])
    # An edge that both have cancels out; what is left alternates between begin and end.
    left = []
    for edge in edges:
        if left and left[-1] == edge:
            left.pop()
        else:
            left.append(edge)
    return list(zip(left[::2], left[1::2]))


def first_difference(a, b, ranges):
    """Offset of the first byte in these ranges that differs, or None."""
    done = 0
    for begin, end in sorted(ranges):
        for offset in range(max(begin, done), end, CHUNK):
            length = min(CHUNK, end - offset)
            left, right = os.pread(a, length, offset), os.pread(b, length, offset)
            if left != right:
                same = next((i for i, (x, y) in enumerate(zip(left, right)) if x != y), min(len(left), len(right)))
                return offset + same
        done = max(done, end)
    return None


def file_differences(a, b, left, right, block):
    if left.st_size != right.st_size:
        yield "size", left.st_size, right.st_size
        return
    slack = max(16 * block, left.st_size // 16)  # extent trees, and blocks allocated ahead
    if abs(left.st_blocks - right.st_blocks) * 512 > slack:
        yield "allocated bytes", left.st_blocks * 512, right.st_blocks * 512
    fds = []
    try:
        for path in (a, b):
            fds.append(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))
        maps = [data_ranges(fd, left.st_size) for fd in fds]
        uneven = [r for r in only_in_one(*maps) if r[1] - r[0] > block]
        if uneven:
            begin, end = uneven[0]
            is_data = any(low <= begin < high for low, high in maps[0])
            where = f"{begin}-{end}" + (f" and {len(uneven) - 1} more ranges" if len(uneven) > 1 else "")
            yield (f"holes at {where}", *(("data", "hole") if is_data else ("hole", "data")))
        whole = [(0, left.st_size)]
        at = first_difference(*fds, whole if left.st_size <= READ_WHOLE else maps[0] + maps[1])
        if at is not None:
            yield (f"contents from byte {at}", *(os.pread(fd, 8, at) for fd in fds))
    finally:
        for fd in fds:
            os.close(fd)


def differences(a, b, left, right, block):
    """Yields (what, on the left, on the right) for one name that both trees have."""
    if stat.S_IFMT(left.st_mode) != stat.S_IFMT(right.st_mode):
        yield "type", oct(stat.S_IFMT(left.st_mode)), oct(stat.S_IFMT(right.st_mode))
        return
    attributes = ["st_uid", "st_gid", "st_mtime_ns"]
    if not stat.S_ISDIR(left.st_mode):  # whose link count is the file system's own affair
        attributes.append("st_nlink")
    if stat.S_ISCHR(left.st_mode) or stat.S_ISBLK(left.st_mode):
        attributes.append("st_rdev")
    if stat.S_IMODE(left.st_mode) != stat.S_IMODE(right.st_mode):
        yield "mode", oct(stat.S_IMODE(left.st_mode)), oct(stat.S_IMODE(right.st_mode))
    for attribute in attributes:
        if getattr(left, attribute) != getattr(right, attribute):
            yield attribute[3:], getattr(left, attribute), getattr(right, attribute)
    x, y = xattrs(a), xattrs(b)
    for name in sorted(x.keys() | y.keys()):
        if x.get(name) != y.get(name):
            yield f"xattr {name}", x.get(name), y.get(name)
    if stat.S_ISLNK(left.st_mode) and os.readlink(a) != os.readlink(b):
        yield "target", os.readlink(a), os.readlink(b)
    if stat.S_ISREG(left.st_mode):
        yield from file_differences(a, b, left, right, block)


def link_groups(tree):
    """path -> all paths of its inode, for inodes with several."""
    groups = {}
    for path, status in tree.items():
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            groups.setdefault((status.st_dev, status.st_ino), []).append(path)
    return {path: sorted(paths) for paths in groups.values() for path in paths}


def compare(source, target, block):
    """Yields one line for each difference."""
    trees = [dict(walk(root)) for root in (source, target)]
    left, right = trees
    for path in sorted(left.keys() | right.keys()):
        if path not in right:
            yield f"{path!r}: only in the source"
        elif path not in left:
            yield f"{path!r}: only in the target"
        else:
            pair = os.path.join(source, path), os.path.join(target, path)
            for what, a, b in differences(*pair, left[path], right[path], block):
                yield f"{path!r}: {what}: {a!r} in the source, {b!r} in the target"
    a, b = link_groups(left), link_groups(right)
    for path in sorted((a.keys() | b.keys()) & left.keys() & right.keys()):
        if a.get(path) != b.get(path):
            yield f"{path!r}: linked with {a.get(path)!r} in the source, {b.get(path)!r} in the target"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--limit", type=int, default=20, help="print so many differences (default 20)")
    parser.add_argument("--block", type=int, default=4096, help="holes may differ by so many bytes (default 4096)")
    arguments = parser.parse_args()
    count = 0
    try:
        # By descriptor, so that a long path to a root leaves room for the paths in it.
        roots = [b"/proc/self/fd/%d" % os.open(root, os.O_RDONLY | os.O_DIRECTORY)
                 for root in (arguments.source, arguments.target)]
        for line in compare(*roots, arguments.block):
            count += 1
            if count <= arguments.limit:
                print(line)
    except OSError as error:
        print(f"compare_trees: error: {error}", file=sys.stderr)
        return 2
    if count > arguments.limit:
        print(f"... {count} differences in all")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
