"""The house: which module may know which, and files that one can read in one sitting."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'perceiver_io'
NETWORK = {
    'position_encoding',
    'tokens',
    'attention',
    'separable',
    'exact_encoder',
    'exact_decoder',
    'folding',
    'perceiver',
    'io_processors',
    'config',
    'autoencoder',
}
FILES = sorted([*PACKAGE.rglob('*.py'), *ROOT.glob('*.py')])


def name_of(path: pathlib.Path) -> str:
    """'data.media' for perceiver_io/data/media.py; 'train.py' for a program."""
    if PACKAGE not in path.parents:
        return path.name
    return '.'.join(path.relative_to(PACKAGE).with_suffix('').parts)


def imports_of(path: pathlib.Path) -> set[str]:
    """Everything a file imports; modules of the package without its name in front."""
    modules = {name_of(file) for file in FILES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path.name} imports relatively'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        else:
            continue
        for name in names:
            name = name.removeprefix('perceiver_io.')
            found.add(
                name
                if name in modules
                else name.rsplit('.', 1)[0]
                if (name.rsplit('.', 1)[0] in modules)
                else name.split('.')[0]
            )
    return found


IMPORTS = {name_of(path): imports_of(path) for path in FILES}


def test_the_network_knows_no_data_and_no_training():
    assert NETWORK <= IMPORTS.keys()
    for module in NETWORK:
        own = {name for name in IMPORTS[module] if name in IMPORTS}
        assert own <= NETWORK | {'clip'}, module


def test_the_data_know_no_network_and_no_jax():
    data = {name for name in IMPORTS if name.startswith('data.')}
    assert len(data) > 5
    for module in data:
        own = {name for name in IMPORTS[module] if name in IMPORTS}
        assert own <= data | {'clip', 'kinetics700', 'files', 'cli'}, module
        assert not {'jax', 'haiku', 'optax'} & IMPORTS[module], module


@pytest.mark.parametrize('module', ['clip', 'kinetics700', 'files'])
def test_what_both_know_knows_nothing(module):
    assert not {name for name in IMPORTS[module] if name in IMPORTS} | {'jax'} & IMPORTS[module]


def test_formats_know_no_network_and_no_jax():
    formats = {name for name in IMPORTS if name.startswith('formats.')}
    assert len(formats) > 4
    for module in formats:
        own = {name for name in IMPORTS[module] if name in IMPORTS}
        assert own <= formats | {'files'}, module
        assert not {'jax', 'haiku', 'torch'} & IMPORTS[module], module


def test_imports_run_one_way():
    def visit(module, path):
        assert module not in path, f'imports in a circle: {" -> ".join([*path, module])}'
        for imported in IMPORTS[module]:
            if imported in IMPORTS:
                visit(imported, [*path, module])

    for module in IMPORTS:
        visit(module, [])


def test_programs_are_not_imported():
    assert not [
        module for module, names in IMPORTS.items() if names & {'train', 'eval', 'reconstruct'}
    ]


@pytest.mark.parametrize('path', FILES, ids=name_of)
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
