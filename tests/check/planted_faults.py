#!/usr/bin/env python3
"""Does scripts/check find each kind of fault, and name it in one line? Plants each in a copy."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import rooms
from tree import ROOTS

# (check, file, text that is appended, the one line that has to come).
# A file that is not there is made.
HEADER = '// What is it?\n#pragma once\n'
TEXT_FAULTS = [
    ('includes', 'fs/operations/worker.h', '#include "fs/housekeeping/housekeeper.h"\n',
     r'fs/operations/worker.h:\d+: fs/operations may not include .*/housekeeper.h; move .*'),
    ('includes', 'journal/log/record.cc', '#include "journal/control/unix_rpc.h"\n',
     r'journal/log/record.cc:\d+: journal/log may not include journal/control/unix_rpc.h; move .*'),
    ('includes', 'journal/log/record.cc', '#include <capnp/message.h>\n',
     r'journal/log/record.cc:\d+: journal/log may not include <capnp/message.h>; only .* may .*'),
    ('includes', 'journal/base/unix.h', '#include "fs/base/mounts.h"\n',
     r'journal/base/unix.h:\d+: journal/base may not include fs/base/mounts.h; move .*'),
    ('includes', 'fs/nodes/backing.cc', '#include "replicator/peer/transport.h"\n',
     r'fs/nodes/backing.cc:\d+: fs/nodes may not include replicator/peer/transport.h; move .*'),
    ('includes', 'replicator/target/apply/apply.cc', '#include "replicator/source/session.h"\n',
     r'replicator/target/apply/apply.cc:\d+: replicator/target/apply may not include .*; move .*'),
    ('includes', 'journal/volume/labels.h', '#include <boost/algorithm/string.hpp>\n',
     r'journal/volume/labels.h:\d+: a header includes boost/algorithm/string.hpp, .*; declare .*'),
    ('includes', 'fs/attic/old.cc', '',
     r'fs/attic/old.cc:1: folder fs/attic is not in the include rule; add its row .*'),
    ('includes', 'journal/base/a.h', HEADER + '#include "journal/base/a.h"\n',
     r'journal/base/a.h:1: headers include each other: .*; declare .*'),
    ('sources', 'fs/nodes/backing.cc', 'static std::mutex mutex;\n',
     r'fs/nodes/backing.cc:\d+: std::mutex carries no annotations for clang; use Mutex, .*'),
    ('sources', 'fs/nodes/backing.cc', 'void f() { std::lock_guard lock(mutex); }\n',
     r'fs/nodes/backing.cc:\d+: std::lock_guard carries no annotations for clang; use Mutex, .*'),
    ('sources', 'journal/log/record.cc', 'auto t = std::chrono::system_clock::now();\n',
     r'journal/log/record.cc:\d+: system_clock::now reads the wall clock; take a const Clock&, .*'),
    ('sources', 'replicator/target/target.cc', 'void f() { KJ_LOG(ERROR, "x"); }\n',
     r'replicator/target/target.cc:\d+: KJ_LOG has no level, .*; use log:: .*'),
    ('sources', 'fs/nodes/a.h', HEADER + 'class Journal {\n};\n',
     r'.*\.h:\d+: a second type Journal, beside .*\.h:\d+; give .*'),
    ('sources', 'fs/nodes/a.h', '#pragma once\n',
     r'fs/nodes/a.h:1: the header does not say what it is for; open it .*'),
    ('sources', 'fs/nodes/a.h', '// What is it?\n',
     r'fs/nodes/a.h:1: the header can be included twice; add #pragma once'),
    ('sources', 'README.md', '`RecoveryTest.NobodyWroteThis`\n',
     r'README.md:\d+: there is no test RecoveryTest.NobodyWroteThis; name the test .*'),
    ('sources', 'journal/FORMAT.md',
     '\n| found | test |\n| --- | --- |\n| x | `NobodyWroteThis` |\n',
     r'journal/FORMAT.md:\d+: there is no test NobodyWroteThis; name the test .*'),
    ('sources', 'tests/tools/a.py', 'def f(:\n',
     r'tests/tools/a.py:1: Python cannot read it: .*; mend the syntax'),
]

# These stand in a tree of their own: text of one file, and the line.
MUTEX = '''// Mutex: as clang wants it.
#pragma once
struct __attribute__((capability("mutex"))) Mutex {
  void lock() __attribute__((acquire_capability()));
  void unlock() __attribute__((release_capability()));
};
struct Counter {
  Mutex mutex;
  int count __attribute__((guarded_by(mutex))) = 0;
};
'''
TOOL_FAULTS = [
    ('format', 'clang-format', 'fs/a.cc', 'int  x ;\n',
     r'fs/a.cc:1: not formatted; run: scripts/check --fix'),
    ('shell', 'shellcheck', 'scripts/a', '#!/usr/bin/env bash\nrm $1\n',
     r'scripts/a:2: shellcheck: Double quote .*; see https://www.shellcheck.net/wiki/SC2086'),
    ('locks', 'clang++', 'fs/a.cc',
     '#include "fs/mutex.h"\nint f(Counter& c) { return c.count; }\n',
     r"fs/a.cc:2: clang: reading variable 'count' requires holding mutex 'c.mutex'.*; take .*"),
    ('tidy', 'clang-tidy', 'fs/a.cc', 'bool f(int x) { return x == x; }\n',
     r'fs/a.cc:1: clang-tidy: both sides .*misc-redundant-expression.*; mend it, .*'),
    ('help', 'bash', 'build/epochfs', '''#!/bin/bash
case $* in
  --help) printf 'usage: epochfs COMMAND\\n\\n  mount    mount it\\n  barrier  cut\\n' ;;
  *) printf 'usage: epochfs x\\n\\nOptions:\\n  --deep N (=3)\\n  -h [ --help ]  print help\\n' ;;
esac
''', r'epochfs mount --help:1: the option --deep is not described; say what it does'),
]


def run_check(root, name):
    result = subprocess.run(
        [os.path.join(ROOT, 'scripts', 'check'), '--root', root, '--only', name], text=True,
        capture_output=True, check=False, stdin=subprocess.DEVNULL)
    if result.returncode not in (0, 1) or 'Traceback' in result.stderr:
        sys.exit(f'scripts/check broke down:\n{result.stderr}')
    return result.returncode, result.stdout.splitlines()


def expect(name, before, after, status, wanted):
    new = [line for line in after if line not in before]
    # Each of two commands has the same option without a description.
    if name == 'help':
        new = new[:1]
    good = status == 1 and len(new) == 1 and re.fullmatch(wanted, new[0])
    print(('ok    ' if good else 'FAILED') + f' {name}: ' + (' | '.join(new) or 'found nothing'))
    if not good:
        print(f'       wanted: {wanted}')
    return bool(good)


def text_faults(copy):
    for top in ROOTS:
        shutil.copytree(os.path.join(ROOT, top), os.path.join(copy, top),
                        ignore=shutil.ignore_patterns('__pycache__'))
    for name in os.listdir(ROOT):
        if os.path.isfile(os.path.join(ROOT, name)):
            shutil.copy(os.path.join(ROOT, name), copy)
    before = {name: run_check(copy, name)[1] for name in ('includes', 'sources')}
    good = True
    for name, path, text, wanted in TEXT_FAULTS:
        target = os.path.join(copy, path)
        old = None
        if os.path.exists(target):
            with open(target, encoding='utf-8') as f:
                old = f.read()
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, 'a', encoding='utf-8') as f:
            f.write(text)
        status, after = run_check(copy, name)
        good &= expect(name, before[name], after, status, wanted)
        if old is None:
            os.remove(target)
        else:
            with open(target, 'w', encoding='utf-8') as f:
                f.write(old)

    # An exception that is not needed any more is a fault as well.
    unneeded = rooms.HEADERS_WITH_HEAVY_INCLUDES
    path = next(iter(unneeded))
    target = os.path.join(copy, path)
    with open(target, encoding='utf-8') as f:
        text = f.read()
    with open(target, 'w', encoding='utf-8') as f:
        f.write(re.sub(r'#include .*', '', text))
    status, after = run_check(copy, 'includes')
    return good & expect('includes', before['includes'], after, status,
                         rf'tests/check/rooms.py:\d+: the exception of {re.escape(path)} .* is not '
                         r'needed any more; remove it')


def tool_faults(folder):
    good, skipped = True, False
    for name, tool, path, text, wanted in TOOL_FAULTS:
        if not shutil.which(tool):
            print(f'skipped {name}: {tool} is not installed; scripts/setup --tests brings it')
            skipped = True
            continue
        tree = os.path.join(folder, name)
        files = {path: text, 'fs/mutex.h': MUTEX, 'fs/good.cc': 'int good() { return 0; }\n',
                 'build/compile_commands.json': json.dumps([
                     {'directory': os.path.join(tree, 'build'), 'file': f'../{source}',
                      'command': f'ccache c++ -I.. -std=c++20 -include x.h -o x.o -c ../{source}'}
                     for source in ('fs/a.cc', 'fs/good.cc')])}
        for file, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(tree, file)), exist_ok=True)
            with open(os.path.join(tree, file), 'w', encoding='utf-8') as f:
                f.write(content)
        os.chmod(os.path.join(tree, path), 0o755)
        for file in ('.clang-format', '.clang-tidy'):
            shutil.copy(os.path.join(ROOT, file), tree)
        status, after = run_check(tree, name)
        good &= expect(name, [], after, status, wanted)
    if good and skipped and os.environ.get('CI') != 'true':
        sys.exit(77)
    return good and not skipped


def main():
    with tempfile.TemporaryDirectory(prefix='epochfs-check.') as folder:
        good = {'text': text_faults, 'tools': tool_faults}[sys.argv[1]](folder)
    sys.exit(not good)


if __name__ == '__main__':
    main()
