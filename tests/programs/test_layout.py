"""The layout: which folder may import which, and files that one can read in one sitting."""

import ast
import functools
import pathlib
import subprocess
import sys
import tomllib
from collections.abc import Mapping

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'perceiver_io'

# What the modules of each folder may import besides those of the folder itself. `commands` are the
# modules in the root of the package, `launchers` the programs in the root of the repository.
ALLOWED: dict[str, set[str]] = {
    'core': set(),
    'configs': set(),
    'media': {'core'},
    'distributed': {'core'},
    'metrics': {'core'},
    'network': {'core'},
    'data': {'core', 'media'},
    'models': {'core', 'network'},
    'evaluation': {'core', 'media', 'distributed', 'metrics', 'data', 'models'},
    'report': {'core', 'media', 'metrics', 'data', 'models', 'evaluation'},
    'checkpoints': {'core', 'models', 'network'},
    'inference': {'core', 'media', 'metrics', 'models'},
    'sweeps': {'core'},
    'training': {
        'core',
        'media',
        'distributed',
        'metrics',
        'network',
        'data',
        'models',
        'checkpoints',
        'evaluation',
    },
    'commands': {
        'core',
        'media',
        'distributed',
        'metrics',
        'data',
        'models',
        'evaluation',
        'checkpoints',
        'inference',
        'report',
        'sweeps',
        'training',
    },
    'launchers': {'commands'},
}
MOST_FLOORS = 7
LONGEST_FILE = 350  # lines

# Packages that a folder must not load, nor the folders that it imports.
FORBIDDEN: dict[str, set[str]] = {
    'core': {'jax', 'haiku', 'av', 'cv2', 'optax', 'orbax', 'tensorflow_datasets'},
    'media': {'jax', 'haiku', 'optax', 'orbax', 'tensorflow_datasets'},
    'data': {'jax', 'haiku', 'optax', 'orbax', 'grain'},
    'network': {'av', 'cv2', 'optax', 'orbax', 'grain', 'tensorflow_datasets'},
    'models': {'av', 'cv2', 'optax', 'orbax', 'grain', 'tensorflow_datasets'},
    'checkpoints': {'av', 'cv2', 'optax', 'grain', 'tensorflow_datasets'},
}

# Modules that need such a package themselves. Grain loads JAX and Orbax.
EXCEPTIONS = {'data.loader': {'grain'}}

# `import perceiver_io`, then every public name, must not load these.
NOT_FOR_THE_PUBLIC_NAMES = {'av', 'cv2', 'optax', 'orbax', 'tensorflow_datasets', 'grain'}

ROOT_MODULES = {
    '__init__',
    'cli',
    'compile',
    'completion',
    'convert',
    'decode',
    'embed',
    'encode',
    'eval',
    'inspect',
    'prepare',
    'reconstruct',
    'sweep',
    'train',
}
LAUNCHERS = {'train', 'eval', 'reconstruct'}


def files() -> list[pathlib.Path]:
    return sorted([*PACKAGE.rglob('*.py'), *ROOT.glob('*.py')])


def module_of(path: pathlib.Path) -> str:
    """'media.reader' for perceiver_io/media/reader.py, 'media' for its __init__.py."""
    if PACKAGE not in path.parents:
        return f'launchers.{path.stem}'
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' and len(parts) > 1 else parts)


def room_of(module: str) -> str:
    first, _, rest = module.partition('.')
    return first if rest or (PACKAGE / first).is_dir() else 'commands'


def imported_by(source: str, modules: set[str]) -> set[str]:
    """The modules of the package that a source file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, 'relative imports hide the folder'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition('.')
            if first != 'perceiver_io':
                continue
            while rest and rest not in modules:  # the names in a module
                rest = rest.rpartition('.')[0]
            found.add(rest or '__init__')
    return found


@functools.cache
def graph() -> dict[str, set[str]]:
    modules = {module_of(path) for path in files()}
    return {
        module_of(path): imported_by(path.read_text(), modules) - {module_of(path)}
        for path in files()
    }


def rooms(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Which other folders each folder imports."""
    found: dict[str, set[str]] = {}
    for module, names in imports.items():
        room = room_of(module)
        found.setdefault(room, set()).update({room_of(name) for name in names} - {room})
    return found


def floors(arrows: Mapping[str, set[str]]) -> dict[str, int]:
    """The height of each node above those that import nothing; AssertionError for a cycle."""
    heights: dict[str, int] = {}

    def height(node: str, path: tuple[str, ...]) -> int:
        assert node not in path, f'imports in a circle: {" -> ".join([*path, node])}'
        if node not in heights:
            below = [height(other, (*path, node)) for other in arrows[node]]
            heights[node] = 1 + max(below, default=-1)
        return heights[node]

    for node in arrows:
        height(node, ())
    return heights


@pytest.mark.parametrize('room', ALLOWED)
def test_a_folder_imports_what_it_may(room):
    wrong = {
        f'{module} -> {name}'
        for module, names in graph().items()
        for name in names
        if room_of(module) == room != room_of(name) and room_of(name) not in ALLOWED[room]
    }
    assert not wrong


def test_every_folder_has_a_rule():
    assert set(rooms(graph())) == set(ALLOWED)


def test_imports_run_one_way_and_floors_are_few():
    floors(graph())  # no module imports itself through others
    heights = floors(rooms(graph()))
    assert max(heights.values()) < MOST_FLOORS, heights
    assert max(floors(ALLOWED).values()) < MOST_FLOORS  # nor do the rules allow more


def test_the_root_of_the_package_holds_the_commands_alone():
    assert {path.stem for path in PACKAGE.glob('*.py')} == ROOT_MODULES
    assert {path.stem for path in ROOT.glob('*.py')} == LAUNCHERS


def test_programs_are_imported_by_launchers_alone():
    programs = ROOT_MODULES - {'__init__', 'cli'}
    importers = {module for module, names in graph().items() if names & programs}
    assert importers == {f'launchers.{name}' for name in LAUNCHERS} | {'embed'}


def packages_of(path: pathlib.Path) -> set[str]:
    """The top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or '').partition('.')[0])
    return found


def loaded_after(code: str) -> set[str]:
    """The top-level packages that a new process has loaded after running `code`."""
    code += '\nimport sys; print(*{name.partition(".")[0] for name in sys.modules})'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize('room', FORBIDDEN)
def test_a_folder_loads_no_package_that_it_must_not(room):
    modules = {module_of(path): path for path in files() if room_of(module_of(path)) == room}
    for module, path in modules.items():
        assert not packages_of(path) & FORBIDDEN[room] - EXCEPTIONS.get(module, set()), module
    names = sorted(set(modules) - set(EXCEPTIONS))
    loaded = loaded_after('\n'.join(f'import perceiver_io.{name}' for name in names))
    assert 'numpy' in loaded and not FORBIDDEN[room] & loaded


def test_the_public_names_load_few_packages():
    assert 'jax' not in loaded_after('import perceiver_io')
    loaded = loaded_after('from perceiver_io import *')
    assert 'jax' in loaded and not NOT_FOR_THE_PUBLIC_NAMES & loaded


@pytest.mark.parametrize('path', files(), ids=module_of)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def test_rules_can_fail():
    """The rules find what they are to find, in sources with one fault each."""
    modules = {'core.clip', 'core', 'train', 'media.reader'}
    assert imported_by('import perceiver_io', modules) == {'__init__'}
    assert imported_by('def f():\n    from perceiver_io.core.clip import Clip', modules) == {
        'core.clip'
    }
    assert imported_by('from perceiver_io.media import reader', modules) == {'media.reader'}
    with pytest.raises(AssertionError, match='relative'):
        imported_by('from .core import clip', modules)
    with pytest.raises(AssertionError, match='a -> b -> a'):
        floors({'a': {'b'}, 'b': {'a'}})
    assert floors({'a': set(), 'b': {'a'}, 'c': {'a', 'b'}}) == {'a': 0, 'b': 1, 'c': 2}
    assert rooms({'core.clip': {'media.reader'}})['core'] - ALLOWED['core'] == {'media'}


def test_extras_of_the_package_are_the_requirements_files():
    extras = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project'][
        'optional-dependencies'
    ]
    for name, requirements in extras.items():
        lines = (ROOT / f'requirements-{name}.txt').read_text().splitlines()
        assert requirements == [line for line in lines if not line.startswith(('#', '-r'))], name
