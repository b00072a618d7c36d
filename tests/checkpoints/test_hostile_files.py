"""Damaged and hostile files: every one refused in one line, and nothing in them ever run."""

import os
import pathlib
import pickle
import random
import re
import time
import tracemalloc

import jax
import numpy as np
import pytest
from helpers.hostile_files import CASES, torch_zip
from helpers.pickle_writer import Touch, pickled
from helpers.small_checkpoints import make_checkpoint

from perceiver_io import cli
from perceiver_io.checkpoints import loading, transformers, writing
from perceiver_io.checkpoints.formats import inert_pickle

MEMORY = 32 << 20  # bytes that no refusal needs
SECONDS = 15  # on the slowest of machines, with its memory traced


@pytest.fixture(scope='module')
def sound(tmp_path_factory):
    """Every form of the same weights, as {file name: bytes}, and their state dict."""
    folder = tmp_path_factory.mktemp('sound')
    loaded = make_checkpoint()
    arrays = transformers.to_arrays(loaded.params)
    writing.write_pystate(folder / 'x.pystate', loaded)
    writing.write_transformers(folder / 'model.safetensors', loaded)
    (folder / 'pytorch_model.bin').write_bytes(torch_zip({'arrays': arrays}))
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {'arrays': arrays}


def write(folder: pathlib.Path, contents: dict[str, bytes]) -> pathlib.Path:
    """Writes files; returns what to load: the only file of weights, or the folder of a run."""
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    weights = [name for name in contents if not name.endswith('.json') and '.' in name]
    return folder / weights[0] if weights else folder


def refusal(path) -> str:
    """How a file is refused: what the user is shown."""
    with pytest.raises(ValueError) as info:
        loading.load_checkpoint(path)
    text = cli.message(info.value)
    assert text is not None, 'this would be shown as a bug'
    return text


def test_there_are_many():
    assert len(CASES) > 100


@pytest.mark.filterwarnings('ignore:Duplicate name')  # in a case
@pytest.mark.parametrize('name', CASES)
def test_refused_and_not_run(sound, tmp_path, monkeypatch, name):
    expected, make = CASES[name]
    canary = tmp_path / 'canary'
    monkeypatch.setattr(Touch, 'command', f'touch {canary}')
    path = write(tmp_path, make(sound))
    before = sorted(os.listdir(tmp_path))
    tracemalloc.start()
    begin = time.process_time()
    try:
        text = refusal(path)
        seconds = time.process_time() - begin
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY and seconds < SECONDS
    assert not canary.exists() and sorted(os.listdir(tmp_path)) == before
    assert '\n' not in text and len(text) < 400
    assert re.search(expected, text), text


def test_the_canary_sings(tmp_path, monkeypatch):
    """Python's own unpickler runs what the cases hold."""
    canary = tmp_path / 'canary'
    monkeypatch.setattr(Touch, 'command', f'touch {canary}')
    _, make = CASES['calls os.system']
    pickle.loads(make(None)['x.pystate'])
    assert canary.exists()


@pytest.mark.parametrize('name', ['x.pystate', 'model.safetensors', 'pytorch_model.bin'])
def test_sound_files_are_read(sound, tmp_path, name):
    contents = {file: sound[file] for file in ('x.json', 'config.json', name)}
    loaded, expected = loading.load_checkpoint(write(tmp_path, contents)), make_checkpoint()
    assert loaded.config == expected.config
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected.params)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(
    'name', ['x.pystate', 'model.safetensors', 'pytorch_model.bin', 'x.json', 'config.json']
)
def test_noise(sound, tmp_path, name, seed):
    """Bytes changed, cut out, doubled: refused in one line, or all the same arrays, finite."""
    rng = random.Random(f'{name} {seed}')
    weights = {'x.json': 'x.pystate', 'config.json': 'model.safetensors'}.get(name, name)
    beside = 'x.json' if weights == 'x.pystate' else 'config.json'
    shapes = jax.tree.map(np.shape, make_checkpoint().params)
    for _ in range(25):
        contents = {file: sound[file] for file in (weights, beside)}
        contents[name] = spoilt(contents[name], rng)
        path = write(tmp_path, contents)
        try:
            loaded = loading.load_checkpoint(path)
        except ValueError as error:
            text = cli.message(error)
            assert text is not None, repr(error)
            assert '\n' not in text
        else:
            assert jax.tree.map(np.shape, loaded.params) == shapes
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loaded.params))


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """With a few changes, most of them where the structure is: near the start and the end."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        place = rng.randrange(len(data))
        if rng.random() < 0.7:
            place = rng.choice([place % 4096, len(data) - 1 - place % 4096]) % len(data)
        match rng.randrange(5):
            case 0 | 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                data[place] = rng.randrange(256)
            case 3:
                del data[place : place + rng.randrange(1, 9)]
            case 4:
                data[place:place] = data[place : place + rng.randrange(1, 9)]
        if not data:
            break
    return bytes(data if rng.random() < 0.9 else data[: rng.randrange(len(data))])


def test_random_instructions_do_nothing():
    """Pickles of random instructions that are all known: InvalidFileError, or a value."""
    rng = random.Random(0)
    parts = [
        b'(',
        b')',
        b'}',
        b'N',
        b'\x88',
        b'K\x01',
        b'X\x01\0\0\0a',
        b'\x94',
        b'h\0',
        b'\x85',
        b'\x86',
        b't',
        b'R',
        b'b',
        b's',
        b'u',
        b'Q',
        b'\x93',
        b'C\x01b',
        b'cnumpy\ndtype\n',
        b'ccollections\nOrderedDict\n',
    ]
    calls = {
        'numpy.dtype': lambda arguments: inert_pickle.Dict(),
        'collections.OrderedDict': lambda arguments: inert_pickle.Dict(),
    }
    read = 0
    for _ in range(3000):
        data = b''.join(rng.choices(parts, k=rng.randrange(1, 12))) + b'.'
        try:
            inert_pickle.read(data, calls)
            read += 1
        except ValueError as error:
            assert '\n' not in str(error)
    assert read > 50
    value = {'a': (1, None, True, b'x')}
    assert inert_pickle.read(pickled(value), {}) == value
