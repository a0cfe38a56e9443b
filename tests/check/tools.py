"""What tools find: clang-format, shellcheck, clang's analysis of locks, and clang-tidy."""
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess

from tree import failure


class Missing(Exception):
    """A check cannot run here; the text says why and what to do."""


def _need(tool):
    if not shutil.which(tool):
        raise Missing(f'{tool} is not installed; scripts/setup --tests brings it')
    return tool


def _run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False, **options)


def _side_by_side(run, paths):
    """Results of run(path) in the order of the paths."""
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return pool.map(run, paths)


_MESSAGE = re.compile(r'(\S[^:\n]*):(\d+):(?:\d+:)? (?:fatal )?(error|warning|note): (.*)')


def _messages(tree, folder, output, ignored='note'):
    """Yields (path, line, text) of each message of a tool that ran in this folder."""
    for line in output.splitlines():
        found = _MESSAGE.match(line)
        if found and found[3] != ignored:
            path = os.path.relpath(os.path.realpath(os.path.join(folder, found[1])),
                                   os.path.realpath(tree.root))
            yield path, int(found[2]), found[4]


# ---- formatting and scripts ----

def check_format(tree, fix=False):
    paths = tree.cpp
    if not paths:
        return
    clang_format = _need('clang-format')
    version = re.search(r'version (\d+)', _run([clang_format, '--version']).stdout)
    if version and version[1] != '14':
        raise Missing(f'clang-format {version[1]} formats differently; use 14, which Debian 12 has')
    if fix:
        _run([clang_format, '-i', '--style=file', *paths], cwd=tree.root)
        return
    output = _run([clang_format, '--dry-run', '--style=file', *paths], cwd=tree.root).stdout
    seen = set()
    for path, line, _ in _messages(tree, tree.root, output):
        if path not in seen:
            seen.add(path)
            yield failure(path, line, 'not formatted', 'run: scripts/check --fix')


def check_shell(tree):
    paths = tree.scripts('(?:ba)?sh')
    if not paths:
        return
    output = _run([_need('shellcheck'), '--external-sources', '--format=gcc', *paths],
                  cwd=tree.root).stdout
    for path, line, text in _messages(tree, tree.root, output, ignored=None):
        code = re.search(r'\[SC(\d+)\]', text)
        page = f'see https://www.shellcheck.net/wiki/SC{code[1]}' if code else 'mend it'
        yield failure(path, line, f'shellcheck: {text}', page)


# ---- clang ----

class Commands:
    """How is each file compiled? compile_commands.json of the build folder, made fit for clang."""

    def __init__(self, tree, build):
        self.tree = tree
        self.folder = os.path.join(tree.root, build)
        database = os.path.join(self.folder, 'compile_commands.json')
        if not os.path.exists(database):
            raise Missing(f'{build}/ is not built; run scripts/test, or name another: --build DIR')
        root = os.path.realpath(tree.root)
        self.arguments = {}
        with open(database, encoding='utf-8') as f:
            for entry in json.load(f):
                path = os.path.relpath(os.path.realpath(os.path.join(entry['directory'],
                                                                     entry['file'])), root)
                self.arguments.setdefault(path, self._for_clang(entry))

    @property
    def sources(self):
        """Without precompiled headers, which are listed as well."""
        return {path for path in self.arguments if path.endswith('.cc')}

    @staticmethod
    def _for_clang(entry):
        words = shlex.split(entry['command']) if 'command' in entry else entry['arguments']
        words = words[next(i for i, word in enumerate(words) if re.search(r'(\+\+|cc|clang)$', word)
                           and 'ccache' not in word) + 1:]
        result, i = [], 0
        while i < len(words):
            word = words[i]
            if word in ('-include', '-MQ', '-MF', '-o', '-c'):  # g++'s precompiled header, outputs
                i += 2
                continue
            if word == '-Ischema':  # what Cap'n Proto's compiler wrote is nobody's to mend
                result += ['-isystem', 'schema']
            elif re.match(r'-[IDU]|-std=|-pthread', word):
                result.append(word)
            elif word == '-isystem':
                result += words[i:i + 2]
                i += 1
            i += 1
        return result

    def of(self, path):
        source = os.path.relpath(os.path.join(self.tree.root, path), self.folder)
        return [*self.arguments[path], source]


def _once(results, tree, folder, say):
    seen = set()
    for output in results:
        for message in _messages(tree, folder, output):
            if message not in seen and not message[0].startswith('..'):
                seen.add(message)
                yield say(*message)


def check_thread_safety(tree, build):
    clang = _need('clang++')
    commands = Commands(tree, build)
    paths = [path for path in tree.production if path in commands.sources]

    def run(path):
        return _run([clang, '-fsyntax-only', '-Wno-everything', '-Wthread-safety',
                     '-Werror=thread-safety', '-fno-caret-diagnostics', *commands.of(path)],
                    cwd=commands.folder).stdout

    yield from _once(_side_by_side(run, paths), tree, commands.folder,
                     lambda path, line, text: failure(
                         path, line, f'clang: {text}',
                         'take the lock, or say in the annotations who holds it'))


def changed_files(tree):
    """Since the fork from origin/main, or else since the commit before; uncommitted ones, too."""
    def git(*words):
        result = subprocess.run(['git', *words], cwd=tree.root, text=True, check=False,
                                capture_output=True)
        return result.stdout.split('\n') if result.returncode == 0 else []

    head = git('rev-parse', 'HEAD')[:1]
    base = git('merge-base', 'HEAD', 'origin/main')[:1]
    if not base or base == head:
        base = git('rev-parse', '--verify', '--quiet', 'HEAD~1')[:1]
    if not head or not base:
        return None
    return {path for path in [*git('diff', '--name-only', base[0]),
                              *git('ls-files', '--others', '--exclude-standard')] if path}


def sources_to_tidy(tree, commands, changed):
    """Files that show clang-tidy all that changed: for a header one file that includes it."""
    sources = [path for path in tree.cpp if path in commands.sources]
    if changed is None or changed & {'.clang-tidy', 'meson.build'}:
        return sources
    chosen = {path for path in sources if path in changed}
    for header in (path for path in changed if path.endswith('.h') and path in tree.files):
        own = header[:-2] + '.cc'
        includers = [path for path in sources if f'#include "{header}"' in tree.text(path)]
        chosen |= set([own] if own in includers else includers[:1])
    return sorted(chosen)


def check_tidy(tree, build, everything=False):
    tidy = _need('clang-tidy')
    commands = Commands(tree, build)
    paths = sources_to_tidy(tree, commands, None if everything else changed_files(tree))

    def run(path):
        *flags, source = commands.of(path)
        return _run([tidy, '--quiet', source, '--', *flags], cwd=commands.folder).stdout

    yield from _once(_side_by_side(run, paths), tree, commands.folder,
                     lambda path, line, text: failure(path, line, f'clang-tidy: {text}',
                                                      'mend it, or say NOLINT(check) and why'))
