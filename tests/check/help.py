"""Does --help of every command describe all its options? Runs the program."""
import re
import subprocess

from tree import failure

_OPTION = re.compile(r'  (?P<name>-\w \[ --[\w-]+ \]|--[\w-]+|-\w)'  # -h [ --help ]
                     r'(?P<value> \S+)?(?P<default> \(=.*?\))?(?:\s+(?P<what>\S.*))?$')


def _run(program, command):
    return subprocess.run([program, *command, '--help'], stdin=subprocess.DEVNULL, timeout=60,
                          capture_output=True, text=True, check=False)


def _block(lines, title):
    """The indented lines behind the line `title`, where there is one."""
    if title not in lines:
        return
    for line in lines[lines.index(title) + 1:]:
        if not line.startswith('  '):
            return
        yield line


def _options(lines):
    """Yields [name, description] of each option."""
    options = []
    for line in _block(lines, 'Options:'):
        found = _OPTION.match(line)
        if found:
            options.append([found['name'], found['what'] or ''])
        elif options:
            options[-1][1] += line.strip()
    return options


def _subcommands(lines, title):
    """Yields (name, description)."""
    for line in _block(lines, title):
        name, _, what = line.strip().partition(' ')
        yield name, what.strip()


def _check_command(program, command):
    shown = ' '.join(['epochfs', *command, '--help'])
    result = _run(program, command)
    if result.returncode != 0 or result.stderr:
        what = f'exit status {result.returncode}, stderr "{result.stderr.strip()}"'
        yield failure(shown, 1, what,
                      'print the help to stdout and exit with 0')
        return
    lines = result.stdout.splitlines()
    if not lines or not lines[0].startswith('usage: epochfs'):
        yield failure(shown, 1, 'no line "usage: epochfs ..."', 'begin with it')
        return
    titles = ['Subcommands:'] if command else []
    subcommands = [s for title in titles for s in _subcommands(lines, title)]
    if not command:  # the program lists its commands without a title
        subcommands = [line.strip().partition(' ')[::2] for line in lines if line.startswith('  ')]
        subcommands = [(name, what.strip()) for name, what in subcommands]
        if len(subcommands) < 2:
            yield failure(shown, 1, 'no commands are listed', 'list them, two spaces before each')
    for name, what in subcommands:
        if not what:
            yield failure(shown, 1, f'the command {name} is not described',
                          'say in a few words what it does')
        yield from _check_command(program, [*command, name])
    if subcommands:
        return

    options = _options(lines)
    if not options:
        yield failure(shown, 1, 'no options are listed', 'list them below "Options:"')
    for name, what in options:
        if not what:
            yield failure(shown, 1, f'the option {name} is not described', 'say what it does')
    listed = ' '.join(name for name, _ in options)
    usage = ' '.join(lines[:lines.index('')] if '' in lines else lines)
    for name in dict.fromkeys(re.findall(r'(?<![\w-])--?\w[\w-]*', usage)):
        if not re.search(re.escape(name) + r'(?![\w-])', listed):
            yield failure(shown, 1, f'the usage names {name}, which is not among the options',
                          'list and describe it, or take it out of the usage')


def check(program):
    yield from _check_command(program, [])
