"""Latents out of files, and clips out of latents."""

import io
import json
import os
import shutil
import zipfile

import av
import numpy as np
import pytest
from helpers.runs import RATE, make_run, python

from perceiver_io import cli, decode, encode
from perceiver_io import reconstruct as reconstruct_program
from perceiver_io.checkpoints import loading
from perceiver_io.data import rendered
from perceiver_io.inference.latents import LatentsReader, LatentsWriter
from perceiver_io.media import reader, writer
from perceiver_io.models.autoencoder import Autoencoder


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    return tmp_path_factory.mktemp('latents')


@pytest.fixture(scope='module')
def run(work):
    return make_run(work / 'run')


@pytest.fixture(scope='module')
def clips(work):
    """Two clips of two seconds, and one of 1.4 seconds without audio."""
    root = rendered.render_folder(
        work / 'cache', train_clips=2, val_clips=1, size=32, seconds=2.0, progress=False
    )
    first, second = sorted((root / 'train').iterdir())
    mute = work / 'mute.mp4'
    writer.write_media(mute, np.full((35, 32, 32, 3), 99, np.uint8), None)
    return [first, second, mute]


@pytest.fixture(scope='module')
def embedded(run, clips, work):
    output = work / 'out' / 'latents.npz'
    assert encode.encode_files(clips, run, output, batch_size=2) == {}
    return output


def read(path):
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def frames_of(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)])


def sound_of(path):
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


def test_what_is_in_the_file(embedded, run, clips):
    arrays = read(embedded)
    assert {name: (array.dtype.str[:2], array.shape) for name, array in arrays.items()} == {
        'latents': ('<f', (8, 8, 16)),
        'pooled': ('<f', (8, 16)),
        'file_pooled': ('<f', (3, 16)),
        'names': ('<U', (3,)),
        'of_file': ('<i', (8,)),
        'start': ('<f', (8,)),
        'frames': ('<i', (8,)),
        'model': ('<U', ()),
    }
    assert arrays['latents'].dtype == np.float32
    assert arrays['names'].tolist() == [str(clip) for clip in clips]
    assert arrays['of_file'].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert arrays['frames'].tolist() == [4, 4, 2, 4, 4, 2, 4, 3]
    np.testing.assert_allclose(arrays['start'][:3], [0, 4 / RATE, 8 / RATE])
    np.testing.assert_allclose(arrays['pooled'], arrays['latents'].mean(1), atol=1e-6)
    np.testing.assert_allclose(
        arrays['file_pooled'][0], arrays['pooled'][:3].T @ [0.4, 0.4, 0.2], atol=1e-6
    )
    facts = json.loads(str(arrays['model']))
    assert (facts['checkpoint'], facts['step'], facts['frame_rate']) == (str(run), 3, RATE)
    assert facts['config']['latents'] == 8


def test_latents_are_the_models(embedded, run, clips):
    loaded = loading.load_checkpoint(run)
    model, spec = Autoencoder(loaded.config), loaded.clip_spec
    first, second = (reader.read_window(clips[1], start, spec) for start in (0.0, 4 / RATE))
    expected = model.encode(
        loaded.params,
        video=np.stack([first.video, second.video]) / np.float32(255),
        audio=np.stack([first.audio, second.audio]) / np.float32(32768),
    )
    np.testing.assert_allclose(read(embedded)['latents'][3:5], expected, atol=1e-5)


def test_decoded_latents_are_what_reconstruct_makes(embedded, run, clips, work):
    written = decode.decode_file(embedded, run, work / 'decoded', batch_size=4)
    assert [path.name for path in written] == [clip.name for clip in clips]
    rows = reconstruct_program.reconstruct_files(clips, run, work / 'direct', batch_size=2)
    for path, row in zip(written, rows):
        one, two = (frames_of(each) for each in (path, work / 'direct' / row['output']))
        assert one.shape == two.shape and len(one) == row['seconds'] * RATE
        assert abs(one.astype(int) - two).max() <= 3  # a rounding may fall the other way
        sounds = [sound_of(each) for each in (path, work / 'direct' / row['output'])]
        np.testing.assert_allclose(*sounds, atol=2e-3)
    assert not list(work.glob('*/.*'))


def test_a_file_that_fails_is_named_and_leaves_nothing(run, clips, work, capsys):
    cut = work / 'cut.mp4'
    data = clips[0].read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    output = work / 'some.npz'
    failed = encode.encode_files(['gone.mp4', clips[1], cut], run, output, batch_size=2)
    assert list(failed) == ['gone.mp4', str(cut)]
    assert failed['gone.mp4'] == 'there is no such file'
    arrays = read(output)
    assert arrays['names'].tolist() == [str(clips[1])] and len(arrays['latents']) == 3
    captured = capsys.readouterr()
    assert 'gone.mp4: there is no such file' in captured.err
    assert '1 of 3 files encoded' in captured.out
    assert encode.encode_files(['gone.mp4'], run, work / 'none.npz') and not list(
        work.glob('*none.npz*')
    )


def test_windows_of_a_file_that_breaks_off_are_taken_back(tmp_path):
    def windows(value, count, error=None):
        for _ in range(count):
            yield np.full((2, 3), value, np.float32), 1
        if error:
            raise error

    path = tmp_path / 'x.npz'
    with LatentsWriter(path, {}, 0.5) as writer:
        assert writer.add('one', windows(1, 2)) == 2
        with pytest.raises(OSError):
            writer.add('broken', windows(9, 3, OSError('it broke')))
        writer.add('two', windows(2, 1))
    reader = LatentsReader(path)
    assert (reader.names, reader.shape) == (('one', 'two'), (2, 3))
    assert [(file, latents.tolist(), real) for file, latents, real in reader.windows()] == [
        (0, [[1.0] * 3] * 2, 1),
        (0, [[1.0] * 3] * 2, 1),
        (1, [[2.0] * 3] * 2, 1),
    ]
    assert read(path)['start'].tolist() == [0, 0.5, 0]
    with pytest.raises(OSError):
        with LatentsWriter(path, {}, 0.5) as writer:
            writer.add('other', windows(1, 1))
            raise OSError
    assert LatentsReader(path).names == ('one', 'two') and list(tmp_path.iterdir()) == [path]


def test_outputs_that_cannot_be(run, clips, work):
    with pytest.raises(ValueError, match='there is no file'):
        encode.encode_files([], run, work / 'x.npz')
    for output in (work, clips[0]):
        with pytest.raises(ValueError, match='name another file'):
            encode.encode_files(clips, run, output)
    with pytest.raises(ValueError, match='--output=.*cannot be written'):
        encode.encode_files(clips, run, clips[0] / 'x.npz')


def damaged(embedded, path, **changes):
    """A copy with other arrays, or without those that are None."""
    arrays = read(embedded) | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_latents_of_another_model_are_refused(embedded, run, work):
    wider = damaged(embedded, work / 'wider.npz', latents=np.zeros((8, 9, 16), np.float32))
    with pytest.raises(ValueError, match=rf"latents \(9, 16\).*\(8, 16\).*made them, '{run}'"):
        decode.decode_file(wider, run, work / 'x')
    for frames in (5, 0):
        longer = damaged(embedded, work / 'longer.npz', frames=np.full(8, frames))
        with pytest.raises(ValueError, match=f'{frames} frames .* 4: give the one that made them'):
            decode.decode_file(longer, run, work / 'x')


@pytest.mark.parametrize(
    'changes, said',
    [
        ({'latents': np.zeros((8, 8, 16))}, 'must be float32'),
        ({'latents': np.zeros((8, 8), np.float32)}, 'must be float32'),
        ({'latents': np.zeros((3, 8, 16), np.float32)}, 'one for each window'),
        ({'latents': np.array([{}])}, 'must be float32'),
        ({'latents': None}, 'latents'),
        ({'of_file': np.zeros(8, np.int32)}, 'must have every file'),
        ({'of_file': np.array([1, 0, 0, 0, 0, 0, 1, 2])}, 'must have every file'),
        ({'frames': np.zeros(8)}, 'must be whole numbers'),
        ({'names': np.array(['a', 'b', 'c\0d'])}, 'names of files'),
        ({'names': np.array([{}, 1, 2])}, 'Object arrays cannot be loaded'),
        ({'model': np.array('[]')}, 'JSON object'),
        ({'model': np.array('{')}, 'no valid file of latents'),
    ],
)
def test_damaged_files_are_explained(embedded, work, changes, said):
    path = damaged(embedded, work / 'damaged.npz', **changes)
    with pytest.raises(ValueError, match=said) as info:
        LatentsReader(path)
    assert str(path) in str(info.value)


def test_files_that_end_early_or_are_none_at_all(embedded, work):
    path = work / 'short.npz'
    data = embedded.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match='no valid file of latents'):
        LatentsReader(path)
    path.write_bytes(b'')
    with pytest.raises(ValueError, match='no valid file of latents'):
        LatentsReader(path)
    with zipfile.ZipFile(embedded) as old, zipfile.ZipFile(path, 'w') as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[: -4 if name == 'latents.npy' else None])
    with pytest.raises(ValueError, match='it ends early'):
        list(LatentsReader(path).windows())
    flipped = bytearray(data)
    flipped[data.index(b'NUMPY') + 300] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(ValueError, match='CRC'):
        list(LatentsReader(path).windows())


def written_as(embedded, path, compression=zipfile.ZIP_DEFLATED, **members):
    """A copy whose entries are compressed, and some of them other bytes."""
    with zipfile.ZipFile(embedded) as old, zipfile.ZipFile(path, 'w', compression) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.removesuffix('.npy'), old.read(name)))
    return path


@pytest.mark.parametrize('compression', [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_files_are_read_and_damaged_ones_explained(embedded, work, compression):
    path = written_as(embedded, work / 'compressed.npz', compression)
    assert len(list(LatentsReader(path).windows())) == 8
    data = bytearray(path.read_bytes())
    for place in range(data.index(b'latents.npy') + 300, data.index(b'pooled.npy'), 40):
        data[place] ^= 255
    path.write_bytes(data)
    with pytest.raises(ValueError, match='no valid file of latents') as info:
        list(LatentsReader(path).windows())
    assert '\n' not in cli.message(info.value)


def test_a_small_file_cannot_become_a_large_one(embedded, work):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {'descr': '|S1', 'fortran_order': False, 'shape': (300 << 20,)}
    )
    path = written_as(embedded, work / 'bomb.npz', names=header.getvalue() + bytes(300 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match='far larger than'):
        LatentsReader(path)


def test_hostile_files_of_latents(embedded, work):
    path = damaged(embedded, work / 'spoilt.npz', latents=np.full((8, 8, 16), np.nan, np.float32))
    with pytest.raises(ValueError, match='NaN or infinity'):
        list(LatentsReader(path).windows())
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)" + b' ' * 20_000 + b'}'
    header = b'\x93NUMPY\x02\0' + len(text).to_bytes(4, 'little') + text
    with pytest.raises(ValueError, match='Header info length') as info:
        LatentsReader(written_as(embedded, work / 'header.npz', frames=header))
    assert '\n' not in str(info.value)
    os.mkfifo(work / 'fifo.npz')
    with pytest.raises(ValueError, match='it is no regular file'):
        LatentsReader(work / 'fifo.npz')


def test_the_commands(run, clips, work):
    shutil.copy(clips[0], work / 'clip.mp4')
    done = python(
        '-m',
        'perceiver_io.embed',
        work / 'clip.mp4',
        'gone.mp4',
        f'--checkpoint={run}',
        f'--output={work / "by_command.npz"}',
    )
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'gone.mp4: there is no such file' in done.stderr
    assert '1 of 2 files encoded' in done.stdout
    done = python(
        '-m',
        'perceiver_io.decode',
        work / 'by_command.npz',
        f'--checkpoint={run}',
        f'--output={work / "by_command"}',
    )
    assert done.returncode == 0, done.stderr
    assert len(frames_of(work / 'by_command' / 'clip.mp4')) == 2 * RATE
    done = python(
        '-m',
        'perceiver_io.decode',
        work / 'clip.mp4',
        f'--checkpoint={run}',
        f'--output={work / "by_command"}',
    )
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('error: ')
