"""The command line: the dispatcher `perceiver-io`, `--config` by name, `--help` and errors.

Exit statuses of every program:

    0    success
    1    the data, a file or a checkpoint is at fault, or some of the files failed
    2    the command line is at fault: an unknown flag, key or config, a wrong value of one, or a
         missing argument
    130  stopped by Ctrl-C

Errors are one or two lines on stderr. A traceback means a bug.
"""

import contextlib
import difflib
import importlib
import os
import pathlib
import re
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.core.version import VERSION

TRACEBACK = 'PERCEIVER_IO_TRACEBACK'  # set this variable to anything to see where an error arose

COMMANDS = {
    'train': 'trains a model, or continues a run',
    'eval': 'evaluates a model: metrics of a dataset, and a few videos',
    'reconstruct': 'reconstructs media files',
    'encode': 'encodes media files into a file of latents',
    'decode': 'decodes a file of latents into media files',
    'convert': 'converts weights between formats',
    'prepare': 'prepares a dataset for training',
    'inspect': 'shows the clips of a dataset',
    'sweep': 'trains and evaluates the points of a sweep, and compares them',
    'compile': 'compiles the programs of a config for TPUs that are not here',
    'completion': 'prints a completion script for bash or zsh',
}
ALIASES = {'embed': 'encode'}  # the name of earlier versions

_typed: list[str] = []  # the command line before `--config` is resolved
_CONFIGS = pathlib.Path(__file__).resolve().parent / 'configs'
_HELP = {'-h', '-help', '--help', '--helpshort', '--helpfull'}


def main() -> None:
    """The console script `perceiver-io`: runs the command named by the first argument.

    Only the module of that command is imported.
    """
    name, *arguments = sys.argv[1:] or ['']
    if name in _HELP:
        print(_usage())
        sys.exit(0)
    if name == '--version':
        print(VERSION)
        sys.exit(0)
    if ALIASES.get(name, name) not in COMMANDS:
        known = ', '.join(COMMANDS)
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        problem = f'no command {name!r}' if name else 'no command is given'
        _fail(f'{problem}; ' + (f'did you mean {near[0]}?' if near else f'commands: {known}'), 2)
    module = importlib.import_module(f'perceiver_io.{ALIASES.get(name, name)}')
    sys.argv = [f'perceiver-io {name}', *arguments]
    run(module.main, getattr(module, 'define_flags', None))


def run(
    main: Callable[[Sequence[str]], int | None], define_flags: Callable[[], None] | None = None
) -> NoReturn:
    """Parses the flags in `sys.argv`, runs `main(argv)` and exits with what it returns.

    Args:
        main: takes the arguments that are no flags, after the program's name.
        define_flags: defines the flags. Programs that share names of flags define them here, so
            that importing both does not define one twice.
    """
    from absl import flags, logging

    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, 'errors', None) == 'strict':  # file names can hold any bytes
            stream.reconfigure(errors='backslashreplace')  # type: ignore[union-attr]
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # Orbax logs a lot; --verbosity=0 shows it
    _typed[:] = sys.argv
    asked = bool(_HELP & _before_dashes(sys.argv))
    with contextlib.ExitStack() as stack:
        try:
            sys.argv = resolve_config(sys.argv)
            if asked:
                sys.argv = [argument for argument in sys.argv if argument not in _HELP]
            names = stack.enter_context(defined(define_flags or (lambda: None)))
            if asked:
                print(_help(sys.modules[main.__module__].__doc__ or '', names), flush=True)
                sys.exit(0)
            arguments = flags.FLAGS(sys.argv)
            _check_configs(names)
        except BrokenPipeError:
            _end_quietly()
        except Exception as error:
            if os.environ.get(TRACEBACK):
                raise
            _fail(_usage_message(error), 2)
        try:
            status = main(arguments)
            sys.stdout.flush()
            sys.exit(status)
        except KeyboardInterrupt as error:
            if os.environ.get(TRACEBACK):
                raise
            _fail(f'stopped: {error}' if str(error) else 'stopped', 130, '')
        except BrokenPipeError:
            _end_quietly()
        except Exception as error:
            text = message(error)
            if text is None or os.environ.get(TRACEBACK):
                raise
            files.remove_empty_folders()
            _fail(text, 2 if isinstance(error, UsageError) else 1)


def command_line() -> str:
    """The command line of this process, to run it again."""
    program, *arguments = _typed
    path = pathlib.Path(program).resolve()
    if path.parent == _CONFIGS.parent and path.stem in COMMANDS:
        program = f'python -m perceiver_io.{path.stem}'
    elif path.suffix == '.py':
        program = f'python {shlex.quote(program)}'
    return ' '.join([program, *map(shlex.quote, arguments)])


def no_arguments(arguments: Sequence[str]) -> None:
    """UsageError if there are arguments besides flags, after the program's name."""
    if len(arguments) > 1:
        raise UsageError(f'{arguments[1]!r} is no flag; --help lists the flags')


@contextlib.contextmanager
def defined(define_flags: Callable[[], None]) -> Iterator[set[str]]:
    """Defines flags while the context lasts; gives their names, without those of config keys."""
    from absl import flags

    before = set(flags.FLAGS)
    try:
        define_flags()
        yield {name for name in set(flags.FLAGS) - before if '.' not in name}
    finally:
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def as_typed(name: str) -> str:
    """A flag as it is typed: '--name=', or '--name' for one that is true or false."""
    from absl import flags

    return f'--{name}' if flags.FLAGS[name].boolean else f'--{name}='


def message(error: Exception) -> str | None:
    """The line to show to the user, or None if the error is a bug.

    The user can act on `UserError`, errors of the operating system, and too little memory.
    """
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f'{error.filename}: {error.strerror}' if error.filename else error.strerror
    if type(error).__name__ == 'JaxRuntimeError' and 'RESOURCE_EXHAUSTED' in str(error):
        return (
            'the memory of a device does not suffice: lower the batch size, or raise '
            f'--config.training.accumulate ({str(error).splitlines()[0][:200]})'
        )
    return None


def shipped_configs() -> list[str]:
    """The names that `--config=` takes besides paths."""
    return sorted(path.stem for path in _CONFIGS.glob('[a-z]*.py'))


def resolve_config(argv: Sequence[str]) -> list[str]:
    """`argv` with `--config=NAME` or `--config NAME` as `--config=PATH` of the config of that name.

    A path may be followed by `:ARGUMENT`, which `get_config` of the file receives.

    Raises:
        UsageError: the value is neither a file nor a shipped name.
    """
    resolved, rest = list(argv[:1]), list(argv[1:])
    while rest and rest[0] != '--':
        argument = rest.pop(0)
        flag, equals, value = argument.partition('=')
        if flag in ('--config', '-config') and (equals or rest):
            argument = f'--config={_config_path(value if equals else rest.pop(0))}'
        resolved.append(argument)
    return resolved + rest


def _config_path(value: str) -> str:
    name, colon, argument = value.partition(':')
    if name in shipped_configs():
        return f'{_CONFIGS / name}.py{colon}{argument}'
    if not pathlib.Path(name).is_file():
        raise UsageError(
            f'--config={value}: there is no such file; give the path of a config, '
            f'or the name of one that is included: {", ".join(shipped_configs())}'
        )
    return value


def _before_dashes(argv: Sequence[str]) -> set[str]:
    """The arguments that can be flags: those before `--`."""
    end = argv.index('--') if '--' in argv else len(argv)
    return set(argv[1:end])


def _usage_message(error: Exception) -> str:
    """The line for an error while the flags are parsed, which includes running the config file."""
    unknown = _unknown_key(error)
    if unknown:
        keys = [line.split()[0] for line in _keys(_config_for_help()[0])]
        meant = [key for key in keys if key.endswith('.' + unknown.strip("'"))]
        text = f'the config has no key {unknown}' + (f'; did you mean {meant[0]}?' if meant else '')
    elif isinstance(error, UserError):
        text = str(error)
    else:
        text = str(error).strip()
        if re.fullmatch(r"Unknown command line flag '\w+\.[\w.]+'", text):
            text += '; a key of the config is set by --config.KEY=VALUE'
        missing = re.search(r'flag (--\w+).* must have a value other than None', text, re.I | re.S)
        if missing:
            text = f'{missing[1]} is missing; --help lists the flags'
        elif 'Traceback (most recent call last)' in text:  # raised in the config file
            text = f'the config file cannot be used: {text.splitlines()[-1]}'
        elif type(error).__module__.partition('.')[0] not in ('absl', 'ml_collections'):
            text = f'the config file cannot be used: {type(error).__name__}: {text}'
    return ' '.join(text.split())


def _unknown_key(error: Exception) -> str | None:
    """The key that a config lacks and the one that is most like it, if that is the error.

    ml_collections raises a KeyError for a group and an AttributeError around one for the last part
    of a key. Its text has the key in quotes, and the proposal in a second line.
    """
    if isinstance(error, AttributeError) and error.args:
        error = error.args[0]
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else ''
    return '; '.join(text.splitlines()) if text.startswith(("'", '"')) else None


def _check_configs(names: Iterable[str]) -> None:
    """Raises what ml_collections keeps until a config is used: files that could not be opened."""
    from absl import flags
    from ml_collections.config_flags import config_flags

    for name in names:
        flag = flags.FLAGS[name]
        if config_flags.is_config_flag(flag) and flag.value is not None:
            flag.value.keys()


def _usage() -> str:
    return '\n'.join(
        [
            'Perceiver IO, the multimodal autoencoder: video, audio and label.',
            '',
            '    perceiver-io COMMAND [FILE...] [--FLAG=VALUE...]',
            '',
            'Commands:',
            *(f'  {name:14}{text}' for name, text in COMMANDS.items()),
            '',
            '`perceiver-io COMMAND --help` describes a command. `--version` prints the version.',
            f'If a command fails, {TRACEBACK}=1 shows where.',
        ]
    )


def _help(description: str, names: Iterable[str]) -> str:
    """The help of a command: the docstring of its module, its flags and its config keys."""
    from absl import flags
    from ml_collections.config_flags import config_flags

    lines = [description.strip(), '', 'Flags:']
    configs = {}
    for name in sorted(names):
        flag = flags.FLAGS[name]
        if config_flags.is_config_flag(flag):
            configs[name] = flag
        hidden = flag.default in (None, '', []) or name in configs
        default = '' if hidden else f' (default: {flag.default})'
        text = re.sub(r'\.?;\s+repeat this option.*', '; repeatable.', flag.help)
        lines += _flag(as_typed(name), f'{text}{default}')
    lines += _flag('--help', 'Shows this text.')
    for name, flag in configs.items():
        config, origin = flag.value, ''
        if name == 'config':
            config, origin = _config_for_help()
        lines += ['', f'Keys, given as --{name}.KEY=VALUE, with their type{origin}:']
        lines += [f'  {line}' for line in _keys(config)]
    return '\n'.join(lines)


def _flag(name: str, text: str) -> list[str]:
    indent = ' ' * 26
    return textwrap.wrap(text, 98, initial_indent=f'  {name:23} ', subsequent_indent=indent)


def _config_for_help() -> tuple[Any, str]:
    """The config named in `sys.argv`, or that of the paper, and what to call its values."""
    from ml_collections.config_flags import config_flags

    given = [argument for argument in sys.argv if argument.startswith('--config=')]
    path = given[-1].partition('=')[2] if given else str(_CONFIGS / 'kinetics700.py')
    config = config_flags.ConfigFileFlagParser('help').parse(path)
    return config, f' and their value in {pathlib.Path(path).name}'


def _keys(config: Any, prefix: str = '') -> list[str]:
    from ml_collections import ConfigDict

    lines = []
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            lines += _keys(value, f'{prefix}{key}.')
        else:
            kind = config.get_type(key).__name__
            lines.append(f'{prefix + key:40}{kind:7}{value!r}')
    return lines


def _end_quietly() -> NoReturn:
    """Exits where nobody reads the output any more, as after `| head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
    sys.exit(128 + signal.SIGPIPE)


def _fail(text: str, status: int, kind: str = 'error: ') -> NoReturn:
    print(f'{kind}{text}', file=sys.stderr)
    sys.exit(status)
