"""The include rule: what may each folder include? This table says it, and nothing else does.

A folder may include itself and the folders that are listed beside it. To add a folder, add its row.
Dependencies run one way: a folder only lists folders whose rows stand above its own.
"""
import os
import re

from tree import failure

_LOG = ['journal/base', 'journal/volume', 'journal/log']
_JOURNAL = [*_LOG, 'journal/changes', 'journal/preimages']
_JOURNAL_AND_RPC = [*_JOURNAL, 'journal/control', 'schema']

MAY_INCLUDE = {
    'schema': [],

    'journal/base/pch': [],
    'journal/base': [],
    'journal/control': ['journal/base', 'schema'],
    'journal/volume': ['journal/base'],
    'journal/log': ['journal/base', 'journal/volume'],
    'journal/changes': _LOG,
    'journal/preimages': ['journal/base', 'journal/changes', 'schema'],
    'journal/commands/names': _JOURNAL_AND_RPC,
    'journal/commands/query': [*_JOURNAL_AND_RPC, 'journal/commands/names'],
    'journal/commands/checks': [*_JOURNAL_AND_RPC, 'journal/commands/names',
                                'journal/commands/query'],
    'journal/commands': [*_JOURNAL_AND_RPC, 'journal/commands/names', 'journal/commands/query',
                         'journal/commands/checks'],

    'fs/base': _LOG,
    'fs/nodes': ['fs/base', 'journal/base'],
    'fs/recording': ['fs/base', 'fs/nodes', *_JOURNAL],
    'fs/housekeeping': ['fs/base', 'fs/nodes', 'fs/recording', *_JOURNAL],
    'fs/operations': ['fs/base', 'fs/nodes', 'fs/recording', *_JOURNAL],
    'fs/process': ['fs/base', 'fs/nodes', 'fs/recording', 'fs/housekeeping', 'fs/operations',
                   *_JOURNAL_AND_RPC],
    'fs/commands': ['fs/base', 'fs/process', *_JOURNAL_AND_RPC],

    'replicator/pch': ['journal/base/pch'],
    'replicator/relationship': ['journal/base', 'journal/control', 'schema'],
    'replicator/target/index': ['journal/base'],
    'replicator/target/directory': ['replicator/relationship', 'replicator/target/index',
                                    *_JOURNAL],
    'replicator/target/receive': ['replicator/target/index', 'replicator/target/directory',
                                  *_JOURNAL, 'schema'],
    'replicator/target/apply': ['replicator/target/index', 'replicator/target/directory',
                                'replicator/target/receive', *_JOURNAL],
    'replicator/target': ['replicator/target/index', 'replicator/target/directory',
                          'replicator/target/receive', 'replicator/target/apply',
                          'replicator/relationship', *_JOURNAL_AND_RPC],
    'replicator/peer': ['replicator/relationship', 'replicator/target', *_JOURNAL_AND_RPC],
    'replicator/source/reading': ['replicator/relationship', *_JOURNAL_AND_RPC],
    'replicator/source/sending': ['replicator/source/reading', 'replicator/relationship',
                                  *_JOURNAL_AND_RPC],
    'replicator/source/transfer': ['replicator/source/reading', 'replicator/source/sending',
                                   'replicator/relationship', *_JOURNAL_AND_RPC],
    'replicator/source': ['replicator/source/reading', 'replicator/source/sending',
                          'replicator/source/transfer', 'replicator/relationship',
                          'replicator/peer', *_JOURNAL_AND_RPC],
    'replicator/daemon': ['replicator/relationship', 'replicator/target', 'replicator/peer',
                          'replicator/source', *_JOURNAL_AND_RPC],
    'replicator/commands': ['replicator/relationship', 'replicator/peer', 'replicator/daemon',
                            *_JOURNAL_AND_RPC],

    '': ['journal/base', 'journal/control', 'journal/commands', 'fs/commands',
         'replicator/commands'],  # main.cc
}

# Includes that break the rule for now: (file, folder) and why. The list only shrinks: one that is
# not needed any more is a failure as well.
EXCEPTIONS = {}

# Libraries that only these folders may include, below them too. `journal/log` cannot see RPC or the
# command line, since it is not listed.
_RPC = ['journal/control', 'journal/commands', 'fs/process', 'fs/commands', 'replicator']
LIBRARIES = {
    'capnp/': [*_RPC, 'journal/preimages'],
    'kj/': [*_RPC, 'journal/preimages'],
    'boost/program_options': ['journal/control'],
    'fuse_lowlevel.h': ['fs/base'],
    'lmdb.h': ['replicator/target/index'],
    'liburing.h': ['replicator/source/sending'],
    'date/': ['replicator/relationship', 'journal/commands/query'],
}

# Boost and Cap'n Proto cost the most compile time, so headers keep out of them. These are the
# exceptions, and this list only shrinks as well.
HEADERS_WITH_HEAVY_INCLUDES = {
    'fs/commands/mount_client.h': 'a client of RPC',
    'fs/process/jobs.h': 'jobs that can only be moved, which std::function cannot hold',
    'journal/commands/json_line.h': 'prints any message',
    'journal/control/failure.h': 'turns an error into a message, and back',
    'journal/control/space_text.h': 'prints a message',
    'journal/control/unix_rpc.h': 'RPC itself',
    'journal/preimages/attributes.h': 'attributes are a message on disk',
    'replicator/commands/client.h': 'a client of RPC',
    'replicator/daemon/control_server.h': 'a server of RPC',
    'replicator/peer/dial.h': 'RPC itself',
    'replicator/peer/proposal.h': 'turns a proposal into a message, and back',
    'replicator/peer/transport.h': 'RPC itself',
    'replicator/relationship/loop_signal.h': 'wakes an event loop of kj',
    'replicator/relationship/relationship.h': 'its state is a message',
    'replicator/source/reading/interruptible.h': 'promises of kj',
    'replicator/source/reading/volume_link.h': 'a client of RPC',
    'replicator/source/sending/block_pump.h': 'sends messages',
    'replicator/source/sending/sender.h': 'sends messages',
    'replicator/source/transfer/context.h': 'lends a client of RPC',
    'replicator/source/sending/window.h': 'promises of kj',
    'replicator/target/receive/messages.h': 'reads messages',
    'replicator/target/receiver.h': 'a server of RPC',
}
_HEAVY = re.compile(r'boost/|capnp/|kj/|schema/.*\.capnp\.h')

_THIS = 'tests/check/rooms.py'


def room_of(path):
    return os.path.dirname(path)


def _includes(tree, path):
    for number, line in tree.lines(path):
        found = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if found:
            yield number, found[1] == '"', found[2]


def _listed(path, folders):
    return any(path.startswith(folder + '/') for folder in folders)


def _line_of(tree, word):
    """Where the table says `word`; line 1 when the tree has another table than this one."""
    if _THIS in tree.files:
        return next((n for n, line in tree.lines(_THIS) if f"'{word}'" in line), 1)
    return 1


def check_table():
    """The table itself runs one way."""
    rows = list(MAY_INCLUDE)
    for row, (room, others) in enumerate(MAY_INCLUDE.items()):
        for other in others:
            if other not in rows[:row]:
                yield failure(_THIS, 1, f'{room} lists {other}, which does not stand above it',
                              'move the row, or find the include that runs upward')
    for room, others in MAY_INCLUDE.items():
        tops = {other.split('/')[0] for other in others}
        for top, forbidden in {'schema': {'journal', 'fs', 'replicator'},
                               'journal': {'fs', 'replicator'}, 'fs': {'replicator'},
                               'replicator': {'fs'}}.items():
            if room.split('/')[0] == top and tops & forbidden:
                yield failure(_THIS, 1, f'{room} lists a folder of {min(tops & forbidden)}',
                              f'{top} never includes it: move what is shared to journal/base')
    if 'fs/housekeeping' in MAY_INCLUDE['fs/operations']:
        yield failure(_THIS, 1, 'fs/operations lists fs/housekeeping',
                      'hand in what it needs from fs/process')


def check_rooms(tree):
    """Each include of ours goes where the table lets it."""
    used = set()
    for path in tree.production:
        room = room_of(path)
        if room not in MAY_INCLUDE:
            yield failure(path, 1, f'folder {room} is not in the include rule',
                          f'add its row to {_THIS}, or move the file')
            continue
        for number, ours, name in _includes(tree, path):
            other = room_of(name)
            if not ours or other == room or other in MAY_INCLUDE[room]:
                continue
            if (path, other) in EXCEPTIONS:
                used.add((path, other))
                continue
            if other not in MAY_INCLUDE:
                remedy = 'write the path from the root of the tree'
            else:
                remedy = f'move what it needs down, or hand it in from above ({_THIS})'
            yield failure(path, number, f'{room or "main.cc"} may not include {name}', remedy)
    for path, other in EXCEPTIONS.keys() - used:
        yield failure(_THIS, _line_of(tree, path),
                      f'the exception of {path} for {other} is not needed any more', 'remove it')


def check_libraries(tree):
    """Each library is seen only by the folders that are built around it."""
    heavy = set()
    for path in tree.production:
        for number, _, name in _includes(tree, path):
            for library, folders in LIBRARIES.items():
                if name.startswith(library) and not _listed(path, folders):
                    yield failure(path, number, f'{room_of(path)} may not include <{name}>',
                                  f'only {", ".join(folders)} may ({_THIS})')
            if path.endswith('.h') and '/pch/' not in path and _HEAVY.match(name):
                heavy.add(path)
                if path not in HEADERS_WITH_HEAVY_INCLUDES:
                    yield failure(path, number, f'a header includes {name}, which compiles slowly',
                                  'declare what it names and include it in the .cc file')
    for path in HEADERS_WITH_HEAVY_INCLUDES.keys() - heavy:
        yield failure(_THIS, _line_of(tree, path),
                      f'the exception of {path} for heavy includes is not needed any more',
                      'remove it')


def check_cycles(tree):
    """No header includes itself, by whatever way."""
    graph = {path: [name for _, ours, name in _includes(tree, path) if ours]
             for path in tree.cpp if path.endswith('.h')}
    done, way = set(), []

    def visit(path):
        if path in way:
            circle = ' -> '.join([*way[way.index(path):], path])
            yield failure(path, 1, f'headers include each other: {circle}',
                          'declare the class instead, or split the header')
        elif path in graph and path not in done:
            way.append(path)
            for other in graph[path]:
                yield from visit(other)
            way.pop()
            done.add(path)

    for path in graph:
        yield from visit(path)


def check(tree):
    yield from check_table()
    yield from check_rooms(tree)
    yield from check_libraries(tree)
    yield from check_cycles(tree)
