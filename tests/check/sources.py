"""Rules that a search of the text can hold: locks, clocks, log lines, names of types, and the tests
that pages mention."""
import collections
import os
import re

from tree import failure


def _search(tree, pattern, allowed, what, remedy):
    for path in tree.production:
        if re.fullmatch(allowed, path):
            continue
        for number, line in tree.code_lines(path):
            found = re.search(pattern, line)
            if found:
                yield failure(path, number, what.format(found[0]), remedy)


def check_locks(tree):
    yield from _search(
        tree,
        r'std::(recursive_|shared_|timed_)*(mutex|lock_guard|unique_lock|scoped_lock|shared_lock)\b'
        r'|std::condition_variable\w*',
        'journal/base/mutex.h', '{} carries no annotations for clang',
        'use Mutex, Lock or Condition of journal/base/mutex.h')


def check_clock(tree):
    yield from _search(
        tree,
        r'system_clock::now|\bCLOCK_REALTIME(_COARSE)?\b|\bgettimeofday\b'
        r'|\btime\((nullptr|NULL|0)\)',
        'journal/base/clock.cc', '{} reads the wall clock',
        'take a const Clock&, or call now_ns(), of journal/base/clock.h')


def check_log_lines(tree):
    """Commands speak to their user, so they may write as they like."""
    yield from _search(
        tree, r'\bKJ_LOG\b|\bstd::(cerr|clog)\b',
        r'journal/base/log.cc|journal/control/command_line.cc|.*/commands/.*',
        '{} has no level, no keys and no rate limit', 'use log:: of journal/base/log.h')


_TYPE = re.compile(r'(?:class|struct|union|enum(?: class| struct)?)\s+(?:\[\[\w+\]\]\s*)?'
                   r'(?:EPOCHFS_\w+(?:\([^{]*\))?\s+)?(\w+)\b(?!::)(?![^{]*;)')


def check_names(tree):
    """No two types of one name in headers: neither readers nor the linker tell them apart."""
    where = collections.defaultdict(list)
    for path in tree.production:
        if not path.endswith('.h'):
            continue
        for number, line in tree.code_lines(path):
            found = _TYPE.match(line)  # at the margin, so of a namespace
            if found:
                where[found[1]].append((path, number))
    for name, places in where.items():
        for path, number in places[1:]:
            first, line = places[0]
            yield failure(path, number, f'a second type {name}, beside {first}:{line}',
                          'give one of them a name of its own')


_TEST = re.compile(r'^\s*(?:TYPED_)?TEST(?:_[FP])?\(\s*(\w+)\s*,\s*(\w+)\s*\)', re.M)
_FULL_NAME = re.compile(r'([A-Z]\w+)\.(\*|[A-Z]\w+)$')


def _cells(line):
    return [cell.strip() for cell in line.strip().strip('|').split('|')]


def _mentioned_tests(tree, page):
    """Yields (line, suite or None, name). In a table's column of tests a bare name is one, too."""
    column, default = None, None
    for number, line in tree.lines(page):
        cells = _cells(line) if line.startswith('|') else []
        if not cells:
            column, default = None, None
        elif column is None and default is None:
            default = ''
            for i, cell in enumerate(cells):
                if re.match(r'tests?\b', cell, re.I):
                    suite = re.search(r'`(\w+)\.\*`', cell)
                    column, default = i, suite[1] if suite else ''
            continue
        for i, cell in enumerate(cells or [line]):
            for word in re.findall(r'`([^`]+)`', cell):
                full = _FULL_NAME.match(word)
                if cells and i == column and re.fullmatch(r'[A-Z]\w+', word):
                    yield number, default or None, word
                elif full and (i == column or re.search(r'Tests?$', full[1])):
                    yield number, full[1], full[2]


def check_tests_of_pages(tree):
    """A page that names a test points at a test that is there."""
    suites = collections.defaultdict(set)
    for path in tree.cpp:
        for suite, name in _TEST.findall(tree.text(path)) if path.startswith('tests/') else []:
            suites[suite].add(name)
    names = set().union(*suites.values())
    for page in (f for f in tree.files if f.endswith('.md')):
        count = 0
        for number, suite, name in _mentioned_tests(tree, page):
            count += 1
            if not (suite in suites if name == '*' else
                    name in suites[suite] if suite else name in names):
                shown = f'{suite}.{name}' if suite else name
                yield failure(page, number, f'there is no test {shown}',
                              'name the test that shows it, or write one')
        if page == 'journal/FORMAT.md' and count < 50:
            yield failure(page, 1, f'only {count} names of tests were found in it',
                          'keep the column "test" in the table of recovery')


def check_openings(tree):
    """A header opens with what it answers."""
    for path in tree.production:
        if path.endswith('.h') and not tree.text(path).startswith('//'):
            yield failure(path, 1, 'the header does not say what it is for',
                          'open it with a comment: the question it answers')
        if path.endswith('.h') and '#pragma once' not in tree.text(path) and '/pch/' not in path:
            yield failure(path, 1, 'the header can be included twice', 'add #pragma once')


def check_python(tree):
    for path in tree.scripts('python3'):
        try:
            compile(tree.text(path), path, 'exec', dont_inherit=True)
        except SyntaxError as e:
            yield failure(path, e.lineno or 1, f'Python cannot read it: {e.msg}', 'mend the syntax')


def check(tree):
    yield from check_locks(tree)
    yield from check_clock(tree)
    yield from check_log_lines(tree)
    yield from check_names(tree)
    yield from check_openings(tree)
    yield from check_tests_of_pages(tree)
    yield from check_python(tree)
