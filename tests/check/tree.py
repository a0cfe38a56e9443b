"""Tree: which files does a check look at, and what does a failure look like? Runs no tool."""
import functools
import os
import re

ROOTS = ('.ci', 'fs', 'journal', 'replicator', 'schema', 'scripts', 'tests')


def failure(where, line, what, remedy):
    """One line: where, what is wrong, and what to do."""
    return f'{where}:{line}: {what}; {remedy}'


class Tree:
    """The files of a checkout, tracked or not. Paths are relative to its root."""

    def __init__(self, root):
        self.root = root

    @functools.cached_property
    def files(self):
        found = [name for name in os.listdir(self.root)
                 if os.path.isfile(os.path.join(self.root, name))]
        for top in ROOTS:
            for folder, folders, names in os.walk(os.path.join(self.root, top)):
                folders[:] = [name for name in folders if name != '__pycache__']
                found += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        return sorted(found)

    @functools.cache
    def text(self, path):
        with open(os.path.join(self.root, path), encoding='utf-8', errors='replace') as f:
            return f.read()

    def lines(self, path):
        """Numbered from 1."""
        return enumerate(self.text(path).splitlines(), 1)

    def code_lines(self, path):
        """The same, without // comments."""
        return ((n, re.sub(r'(^|\s)//.*', '', line)) for n, line in self.lines(path))

    @functools.cached_property
    def cpp(self):
        return [f for f in self.files if f.endswith(('.h', '.cc'))]

    @functools.cached_property
    def production(self):
        """C++ that goes into the program."""
        return [f for f in self.cpp if not f.startswith('tests/')]

    def scripts(self, language):
        """Files that begin with #! of this language, and what such scripts source."""
        return [f for f in self.files
                if not f.endswith(('.h', '.cc'))
                and re.match(rf'#!.*\b{language}|# shellcheck shell={language}', self.text(f))
                or f.endswith('.py') and language == 'python3']
