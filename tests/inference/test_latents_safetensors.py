"""Files of latents as safetensors: what is in them, and damaged and hostile ones."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from helpers.runs import make_run

from perceiver_io import decode, encode
from perceiver_io.data import rendered
from perceiver_io.inference import latents_safetensors
from perceiver_io.inference.latents import LatentsReader, LatentsWriter

WINDOWS = {'one': [4, 4, 2], 'two': [3]}  # valid frames of the windows of each file
LATENTS = np.random.default_rng(0).standard_normal((4, 3, 5), np.float32)


def write(path):
    latents = iter(LATENTS)
    with LatentsWriter(path, {'checkpoint': 'x'}, 0.5) as writer:
        for name, frames in WINDOWS.items():
            writer.add(name, [(next(latents), valid_frames) for valid_frames in frames])
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / 'latents.safetensors')


def test_the_library_reads_and_slices_them(path):
    with safetensors.safe_open(path, framework='numpy') as file:
        metadata = file.metadata()
        np.testing.assert_array_equal(file.get_slice('latents')[1:3], LATENTS[1:3])
    assert json.loads(metadata['names']) == list(WINDOWS)
    assert json.loads(metadata['model']) == {'checkpoint': 'x'}
    arrays = safetensors.numpy.load_file(path)
    pooled = LATENTS.mean(axis=1)
    expected = {
        'latents': LATENTS,
        'pooled': pooled,
        'file_pooled': np.stack([pooled[:3].T @ [0.4, 0.4, 0.2], pooled[3]]),
        'of_file': np.array([0, 0, 0, 1], np.int32),
        'frames': np.array([4, 4, 2, 3], np.int32),
        'start': np.array([0, 0.5, 1, 0]),
    }
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].shape == array.shape
        np.testing.assert_allclose(arrays[name], array, rtol=1e-6)
    assert (path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], 'little')) == sum(
        array.nbytes for array in arrays.values()
    )


def test_both_formats_hold_the_same(path, tmp_path):
    readers = [LatentsReader(path), LatentsReader(write(tmp_path / 'latents.npz'))]
    one, other = ([*reader.windows()] for reader in readers)
    assert readers[0].names == readers[1].names == tuple(WINDOWS)
    assert readers[0].model == readers[1].model
    for (file, latents, valid_frames), (other_file, other_latents, other_frames) in zip(
        one, other, strict=True
    ):
        assert (file, valid_frames) == (other_file, other_frames)
        np.testing.assert_array_equal(latents, other_latents)


def test_arrays_longer_than_a_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr(latents_safetensors, '_CHUNK', 100)
    path = write(tmp_path / 'latents.safetensors')
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)['latents'], LATENTS)
    assert os.listdir(tmp_path) == ['latents.safetensors']


def changed(path, **changes):
    """A copy with other arrays or metadata, without those that are None."""
    with safetensors.safe_open(path, framework='numpy') as file:
        metadata = file.metadata()
    values = safetensors.numpy.load_file(path) | metadata | changes
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    other = path.with_name('changed.safetensors')
    safetensors.numpy.save_file(arrays, other, texts)
    return other


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'latents': np.zeros((4, 3, 5))}, 'latents are float64 .* must be float32'),
        ({'latents': np.zeros((4, 3), np.float32)}, 'must be float32'),
        ({'latents': np.zeros((4, 3, 5), np.int32)}, 'must be float32'),
        ({'latents': np.zeros((3, 3, 5), np.float32)}, 'one for each window'),
        ({'latents': np.zeros((0, 3, 5), np.float32)}, 'one for each window'),
        ({'latents': None}, 'it lacks latents'),
        ({'of_file': np.zeros(4, np.int32)}, 'must have every file'),
        ({'of_file': np.array([1, 0, 0, 0], np.int32)}, 'in ascending order'),
        ({'of_file': np.array([0, 0, 0, 2**31 - 1], np.int32)}, 'must have every file'),
        ({'of_file': None}, 'it lacks of_file'),
        ({'frames': np.zeros(4)}, 'must be whole numbers'),
        ({'names': '["a", 1]'}, 'names of files'),
        ({'names': '{}'}, 'names of files'),
        ({'names': '["a", "c\\u0000d"]'}, 'names of files'),
        ({'names': '['}, 'no valid file'),
        ({'names': '[' * 100_000}, 'no valid file'),
        ({'names': None}, 'lacks names'),
        ({'model': '[]'}, 'JSON object'),
        ({'model': None}, 'lacks names or model'),
    ],
    ids=lambda value: str(value)[:30],
)
def test_damaged_files_are_explained(path, changes, said):
    other = changed(path, **changes)
    with pytest.raises(ValueError, match=said) as info:
        LatentsReader(other)
    assert str(other) in str(info.value) and '\n' not in str(info.value)


def test_files_of_other_bytes_are_refused(path):
    data = path.read_bytes()
    header = int.from_bytes(data[:8], 'little')
    for broken in (
        data[: len(data) // 2],
        data[:-4],
        data + b'1234',
        data[:9],
        (1 << 40).to_bytes(8, 'little') + data[8:],
        (header + 8).to_bytes(8, 'little') + data[8:],
        data.replace(b'"data_offsets"', b'"data_offsetz"'),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match='no valid file of latents') as info:
            LatentsReader(path)
        assert '\n' not in str(info.value)


def test_latents_that_are_not_finite(path):
    with pytest.raises(ValueError, match='NaN or infinity'):
        list(LatentsReader(changed(path, latents=np.full_like(LATENTS, np.nan))).windows())


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    return make_run(folder / 'run'), make_run(folder / 'other', seed=1)


def test_latents_of_other_weights_are_noticed(runs, tmp_path, capsys):
    root = rendered.render_folder(
        tmp_path / 'cache', train_clips=1, val_clips=1, size=32, seconds=1.0, progress=False
    )
    for name in ('latents.safetensors', 'latents.npz'):
        encode.encode_files([root / 'train'], runs[0], tmp_path / name)
        capsys.readouterr()
        decode.decode_file(tmp_path / name, runs[0], tmp_path / 'same')
        assert 'warning' not in capsys.readouterr().err
        written = decode.decode_file(tmp_path / name, runs[1], tmp_path / 'other')
        error = capsys.readouterr().err
        assert f"made with other weights ('{runs[0]}', step 3) than" in error
        assert f'--checkpoint={runs[1]}, step 3' in error
        assert len(written) == 1 and written[0].is_file()


def test_latents_of_an_earlier_version_go_by_the_name(runs, tmp_path, capsys):
    root = rendered.render_folder(
        tmp_path / 'cache', train_clips=1, val_clips=1, size=32, seconds=1.0, progress=False
    )
    path = tmp_path / 'latents.npz'
    encode.encode_files([root / 'train'], runs[0], path)
    with np.load(path) as arrays:
        values = dict(arrays)
    facts = json.loads(str(values['model']))
    del facts['params_sha256']
    np.savez(path, **values | {'model': np.array(json.dumps(facts))})
    capsys.readouterr()
    decode.decode_file(path, runs[0], tmp_path / 'out')
    assert 'warning' not in capsys.readouterr().err
    decode.decode_file(path, runs[1], tmp_path / 'out')
    assert 'made with other weights' in capsys.readouterr().err
