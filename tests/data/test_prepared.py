"""Datasets in TFDS's form as sources: they give what the folder gives that they were made of."""

import itertools
import math
import pathlib
import pickle
import shutil
import zlib

import numpy as np
import pytest
from helpers.flash_files import NTSC, UNEVEN, UNEVEN_BASE, make_flash, seen_and_heard
from helpers.media_files import frame_times
from helpers.prepared_files import write_dataset

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import folder, loader, prepared, rendered, sources
from perceiver_io.data.config import DataConfig
from perceiver_io.data.prepare import transcode
from perceiver_io.data.records import Selection
from perceiver_io.media import writer

SPEC = ClipSpec(frames=4, height=16, width=16)
CLASSES = tuple(sorted(rendered.CLASSES))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """A folder of twelve training clips and three others."""
    return rendered.render_folder(
        tmp_path_factory.mktemp('cache'),
        train_clips=12,
        val_clips=3,
        size=16,
        seconds=0.6,
        progress=False,
    )


@pytest.fixture(scope='module')
def root(files, tmp_path_factory):
    """The same as a dataset, and a split of odd ones."""
    odd = tmp_path_factory.mktemp('odd')
    video = np.zeros((10, 16, 16, 3), np.uint8)
    audio = np.ones((17_640, 1), np.int16)
    writer.write_media(odd / 'silent.mp4', video, None)
    writer.write_media(odd / 'short.mp4', video[:2], audio, sample_rate=44_100)
    writer.write_media(odd / 'nameless.mp4', video, audio, sample_rate=44_100)
    clips = {
        split: [
            (pathlib.Path(record.media), record.name, record.label)
            for record in in_folder(files, split).records
        ]
        for split in ('train', 'val')
    }
    clips['odd'] = [
        (odd / f'{name}.mp4', f'é {name}', label)
        for name, label in (('silent', 0), ('short', 1), ('nameless', -1))
    ]
    root = tmp_path_factory.mktemp('datasets')
    write_dataset(root, clips, CLASSES)
    return root


def in_folder(files, split='train', **arguments):
    return folder.open_folder(files, Selection(split, SPEC, **arguments), progress=False)


def stored(root, split='train', dataset='', **arguments):
    return prepared.open_prepared(root, Selection(split, SPEC, **arguments), dataset)


def names(source):
    return [record.name for record in source.records]


def assert_same_batches(one, other):
    for left, right in zip(one, other, strict=True):
        for a, b in zip((*left.clip, *left[1:5]), (*right.clip, *right[1:5])):
            np.testing.assert_array_equal(a, b)


def train(source, **arguments):
    return itertools.islice(
        loader.train_batches(source, SPEC, batch_size=4, seed=0, **arguments), 4
    )


def test_gives_what_the_folder_gives(files, root):
    for split in ('train', 'val'):
        ours, theirs = stored(root, split), in_folder(files, split)
        assert ours.classes == theirs.classes and not ours.skipped
        for one, other in zip(ours.records, theirs.records, strict=True):
            assert (one.name, one.label, one.seconds, one.has_audio) == (
                other.name,
                other.label,
                other.seconds,
                other.has_audio,
            )
            assert one.load() == pathlib.Path(other.load()).read_bytes()
            assert one.file == one.name
    assert_same_batches(train(stored(root)), train(in_folder(files)))
    assert_same_batches(
        loader.evaluation_batches(stored(root), SPEC, batch_size=4, windows=2),
        loader.evaluation_batches(in_folder(files), SPEC, batch_size=4, windows=2),
    )


def test_workers_open_it_themselves(root):
    source = stored(root)
    assert_same_batches(train(source), train(source, workers=2))
    pickled = pickle.dumps(source)
    assert len(pickled) < 2000 and source.records[0].name.encode() not in pickled


def test_slices(root):
    source = stored(root)
    assert [record.name for record in source.records[2:9:3]] == names(source)[2:9:3]
    assert source.records[-1].name == names(source)[-1]
    with pytest.raises(IndexError):
        source.records[len(source.records)]


@pytest.mark.parametrize('kind', [in_folder, stored])
def test_a_part_of_the_classes(files, root, kind):
    whole = kind(files if kind is in_folder else root)
    part = kind(files if kind is in_folder else root, only=('star', 'cross'))
    assert part.classes == ('cross', 'star') and not part.skipped
    assert names(part) == [
        record.name for record in whole.records if whole.classes[record.label] in ('cross', 'star')
    ]
    for record in part.records:
        assert part.classes[record.label] in record.name
    settled = kind(files if kind is in_folder else root, only=('star',), classes=CLASSES)
    assert settled.classes == CLASSES and {record.label for record in settled.records} == {
        CLASSES.index('star')
    }
    with pytest.raises(ValueError, match="has 'stars', .* did you mean 'star'"):
        kind(files if kind is in_folder else root, only=('stars',))


@pytest.mark.parametrize('kind', [in_folder, stored])
def test_a_fraction_is_part_of_a_larger_one(files, root, kind):
    whole, most, half = (
        set(names(kind(files if kind is in_folder else root, fraction=part)))
        for part in (1.0, 0.8, 0.5)
    )
    assert half < most < whole
    assert half == {name for name in whole if zlib.crc32(name.encode()) < 2**31}


def test_the_config_chooses(root):
    """A fraction is of the training clips alone, classes are of all."""
    config = DataConfig(
        source='tfds', path=str(root), fraction=0.5, classes=('star', 'ring', 'cross')
    )
    part, whole = (
        sources.open_source(config, 'train', SPEC, needs_label=True, training=training)
        for training in (True, False)
    )
    assert part.classes == whole.classes == ('cross', 'ring', 'star')
    assert len(whole.records) == 6 and names(part) == [
        name for name in names(whole) if zlib.crc32(name.encode()) < 2**31
    ]


def test_useless_clips_are_skipped_with_a_reason(root):
    source = stored(root, 'odd')
    assert names(source) == ['é silent'] and not source.records[0].has_audio
    assert source.skipped == (
        ('é short', 'it lasts 0.08 s, less than a window of 0.16 s'),
        ('é nameless', 'it has no label'),
    )
    source = stored(root, 'odd', needs_label=False, missing_audio='skip')
    assert names(source) == ['é nameless'] and source.records[0].label == -1
    assert dict(source.skipped)['é silent'] == 'it has no audio'
    with pytest.raises(ValueError, match='no usable clip in .* 2 skipped .*é silent: it has no'):
        stored(root, 'odd', missing_audio='skip', only=CLASSES)


def test_other_classes_are_unknown(root):
    source = stored(root, 'val', classes=('square', 'x'), needs_label=False)
    assert sorted(record.label for record in source.records) == [-1, -1, 0]
    assert len(stored(root, 'val', classes=('square', 'x')).skipped) == 2


def test_a_damaged_dataset_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / 'copy')
    [shard] = (tmp_path / 'copy').rglob('*train.array_record*')
    content = bytearray(shard.read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 2000)
    content[middle] = bytes(len(content[middle]))
    shard.write_bytes(content)
    source = stored(tmp_path / 'copy')
    failures = [
        failure
        for batch in loader.evaluation_batches(source, SPEC, batch_size=4)
        for failure in loader.failures(batch, source)
    ]
    assert 0 < len(failures) < 12 and all('cannot be read there' in why for _, why in failures)


@pytest.mark.parametrize(
    'name, times, kwargs',
    [
        ('15', frame_times(15, 3), {'sample_rate': 22_050}),
        ('24', frame_times(24, 3), {'sample_rate': 44_100}),
        ('ntsc', frame_times(NTSC, 3), {'sample_rate': 44_100}),
        ('30', frame_times(30, 3), {}),
        ('50', frame_times(50, 3), {'sample_rate': 22_050}),
        ('uneven', UNEVEN, {'time_base': UNEVEN_BASE, 'sample_rate': 44_100}),
        ('late', frame_times(25, 3), {'sound_at': 0.3}),
        ('both_late', [time + 2 for time in frame_times(24, 3)], {'sound_at': 1.9}),
    ],
)
def test_flash_and_burst_coincide_in_what_is_stored(tmp_path, name, times, kwargs):
    """As prepared: the flash is in the first frame of 25 per second after it, the burst where it
    was."""
    expected = make_flash(tmp_path / f'{name}.mkv', times, **kwargs)
    stored_clip = transcode.store(tmp_path / f'{name}.mkv', transcode.Settings(), tmp_path)
    (tmp_path / 'stored.mp4').write_bytes(stored_clip.media)
    write_dataset(tmp_path / 'datasets', {'train': [(tmp_path / 'stored.mp4', name, 0)]}, CLASSES)
    [record] = stored(tmp_path / 'datasets').records
    on_grid = math.ceil(expected * 25 - 0.01) / 25
    seen, heard = seen_and_heard(record.load(), on_grid)
    assert abs(seen - on_grid) < 0.002
    assert abs(heard - expected) < 0.005


def test_wrong_places(root, tmp_path):
    with pytest.raises(ValueError, match=r'no prepared dataset in .*make one with'):
        stored(tmp_path)
    with pytest.raises(ValueError, match='set data.dataset to one of test_clips'):
        stored(root, dataset='kinetics')
    with pytest.raises(ValueError, match="no split='test': choose one of odd, train, val"):
        stored(root, 'test')
    with pytest.raises(ValueError, match="missing_audio='zero'"):
        stored(root, missing_audio='zero')


def test_of_two_datasets_one_must_be_named(root, tmp_path):
    for name in ('one/original', 'one/transcoded', 'two/original'):
        shutil.copytree(root / 'test_clips' / '1.0.0', tmp_path / name / '1.0.0')
    found = prepared.find_dataset
    assert found(tmp_path, 'one') == found(tmp_path, 'one/transcoded/1.0.0')
    assert found(tmp_path, 'two') == tmp_path / 'two' / 'original' / '1.0.0'
    (tmp_path / 'one' / 'transcoded' / '1.0.0' / 'dataset_info.json').unlink()
    with pytest.raises(ValueError, match='2 prepared datasets in .*one of one/original/1.0.0, two'):
        found(tmp_path)


def test_an_index_of_another_dataset_is_refused(root, tmp_path):
    shutil.copytree(root, tmp_path / 'copy')
    [index] = (tmp_path / 'copy').rglob('index_val.npz')
    shutil.copy(index.with_name('index_train.npz'), index)
    with pytest.raises(ValueError, match='3 clips and its index 12: prepare it again'):
        stored(tmp_path / 'copy', 'val')
    index.unlink()
    with pytest.raises(ValueError, match='no .*index_val.npz'):
        stored(tmp_path / 'copy', 'val')
