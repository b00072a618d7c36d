"""Several windows from one read of a clip: which they are, and in which batches."""

import collections
import itertools
import pathlib

import grain
import jax
import numpy as np
import pytest

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import folder, loader, rendered, sampling
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.config import DataConfig
from perceiver_io.data.records import Selection
from perceiver_io.distributed import sharding
from perceiver_io.distributed.sharding import MeshConfig
from perceiver_io.media import reader, writer
from perceiver_io.media.video import _frames
from perceiver_io.training import loop
from perceiver_io.training.experiment import Experiment

SPEC = ClipSpec(frames=4, height=16, width=16)
CLIPS = 10


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return rendered.render_folder(
        tmp_path_factory.mktemp('cache'),
        train_clips=CLIPS,
        val_clips=1,
        size=16,
        seconds=2.0,
        progress=False,
    )


@pytest.fixture(scope='module')
def source(root):
    return folder.open_folder(root, Selection('train', SPEC), progress=False)


def train(source, count, windows, batch_size=8, seed=0, **arguments):
    batches = loader.train_batches(
        source,
        SPEC,
        batch_size=batch_size,
        seed=seed,
        windows_per_read=windows,
        **arguments,
    )
    return list(itertools.islice(batches, count))


def examples(batches):
    """Each example as (video, audio, label, mask, record, start, failed)."""
    return [example for batch in batches for example in zip(*batch.clip, *batch[1:5])]


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for left, right in zip(one, other):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_one_window_is_the_sampling_of_before(source):
    """Grain's order, and for each clip one draw among the frames at which a window can start."""
    drawn = (
        grain.MapDataset.range(CLIPS)
        .seed(5)
        .shuffle()
        .repeat(None)
        .random_map(lambda index, rng: (index, int(rng.integers(47)) / 25))  # 50 - 4 + 1 frames
    )
    expected = [drawn[place] for place in range(24)]
    default = itertools.islice(loader.train_batches(source, SPEC, batch_size=8, seed=5), 3)
    for batches in (default, train(source, 3, 1, seed=5)):
        found = [(index, start) for *_, index, start, _ in examples(batches)]
        assert found == [(index, np.float32(start)) for index, start in expected]


@pytest.mark.parametrize('windows', [2, 4])
def test_a_read_gives_a_window_to_each_of_consecutive_batches(source, windows):
    reads = 8 // windows  # that a batch begins
    batches = train(source, 7, windows)
    records = np.array([batch.record for batch in batches]).reshape(7, reads, windows)
    starts = np.array([batch.start for batch in batches]).reshape(7, reads, windows)
    for age in range(1, windows):
        np.testing.assert_array_equal(records[age:, :, age], records[:-age, :, 0])
    # Every epoch of reads has every clip once.
    begun = records[:, :, 0].ravel()
    before = records[0, :, ::-1].T.ravel()[:-reads]  # begun before the first batch
    order = np.concatenate([before, begun])[: 2 * CLIPS]
    np.testing.assert_array_equal(np.sort(order.reshape(2, CLIPS)), [np.arange(CLIPS)] * 2)
    # One window of a read is in each part of the clip.
    for batch, read in itertools.product(range(7 - windows + 1), range(reads)):
        ages = np.arange(windows)
        frames = np.sort(np.rint(starts[batch + ages, read, ages] * 25))
        assert (frames >= ages * 47 // windows).all()
        assert (frames < (ages + 1) * 47 / windows).all()


def test_a_batch_has_no_clip_twice_within_an_epoch(source):
    few = {len(set(batch.record.tolist())) for batch in train(source, 9, 4)}
    assert few <= {6, 7, 8} and 8 in few  # of 8; fewer where two epochs meet in a batch


def test_the_windows_are_those_of_the_file(source):
    for video, audio, label, _, index, start, _ in examples(train(source, 3, 4)):
        record = source.records[index]
        frame = round(float(start) * 25)
        clip = reader.read_window(record.media, frame / 25, SPEC)
        np.testing.assert_array_equal(video, clip.video)
        # The noise that an AAC decoder adds depends on what it has decoded before.
        np.testing.assert_allclose(audio.astype(float), clip.audio, atol=2)
        assert label == record.label


def test_frames_between_windows_are_decoded_only_up_to_a_key_frame(tmp_path, monkeypatch):
    """Of 100 frames, and of those that an interval of key frames makes it necessary to decode."""
    decoded = []

    def count(frame):
        decoded.append(frame.pts)
        return frame

    monkeypatch.setattr(
        'perceiver_io.media.video._frames', lambda *arguments: map(count, _frames(*arguments))
    )
    for key_interval, most in ((5, 16), (100, 92)):
        path = tmp_path / f'{key_interval}.mp4'
        with writer.MediaWriter(
            path, width=16, height=16, codec=writer.Mpeg2(key_interval=key_interval)
        ) as clip:
            clip.write(np.zeros((100, 16, 16, 3), np.uint8))
        decoded.clear()
        reader.read_windows_at(path, [85 / 25, 10 / 25, 40 / 25], SPEC)
        assert 12 < len(decoded) <= most and len(decoded) == len(set(decoded))


def test_every_start_is_as_likely_as_with_one_window():
    spec = ClipSpec(frames=4, height=16, width=16)
    for windows in (2, 3, 8):
        rng = np.random.default_rng(windows)
        drawn = [sampling.random_starts(rng, 0.4, spec, windows) for _ in range(3000)]  # 7 starts
        counts = collections.Counter(
            (age, round(start * 25)) for each in drawn for age, start in enumerate(each)
        )
        assert len(counts) == 7 * windows
        expected = 3000 / 7
        assert max(abs(count - expected) for count in counts.values()) < 5 * np.sqrt(expected)


@pytest.mark.parametrize(
    'arguments', [{'threads': 1}, {'threads': 3}, {'workers': 1}, {'workers': 2, 'threads': 2}]
)
def test_batches_do_not_depend_on_threads_and_workers(source, arguments):
    both = Augmentation(flip=True, colour_jitter=0.3)
    plain = examples(train(source, 4, 2, augmentation=both))
    assert_same(plain, examples(train(source, 4, 2, augmentation=both, **arguments)))


@pytest.mark.parametrize('first_step', [1, 2, 3, 6])
def test_resuming(source, first_step):
    assert_same(
        examples(train(source, 8, 4)[first_step:]),
        examples(train(source, 8 - first_step, 4, first_step=first_step)),
    )


@pytest.mark.parametrize('count', [2, 4])
def test_processes_divide_the_global_batches(source, count):
    own = np.arange(8).reshape(count, -1).tolist()
    parts = [train(source, 5, 2, first_step=1, rows=rows) for rows in own]
    joined = examples(batch for group in zip(*parts, strict=True) for batch in group)
    assert_same(examples(train(source, 5, 2, first_step=1)), joined)


def test_a_bad_clip_is_replaced_in_all_its_windows(root, source):
    spoilt = source.records[3]
    content = pathlib.Path(spoilt.media).read_bytes()
    good = train(source, 6, 2)
    try:
        pathlib.Path(spoilt.media).write_bytes(b'spoilt')
        bad = train(source, 6, 2)
    finally:
        pathlib.Path(spoilt.media).write_bytes(content)
    replaced = 0
    for before, after in zip(examples(good), examples(bad), strict=True):
        if before[4] != 3:
            assert_same([before], [after])
        else:
            replaced += 1
            assert after[4] == 4 and after[6] == 3 and after[3]
    assert replaced >= 4


def test_wrong_values():
    with pytest.raises(ValueError, match='windows_per_read=0 must be at least 1'):
        DataConfig(windows_per_read=0)
    with pytest.raises(ValueError, match='batch_size=1024 must be a multiple of .*per_read=3'):
        Experiment.from_dict({'data': {'windows_per_read': 3}})
    loader.check_rows([0, 1, 6, 7], 8, 2)
    for rows in ([0, 1], [2, 3, 4, 5]):
        with pytest.raises(ValueError, match='batch_size=8 .*windows_per_read=4 times the devices'):
            loader.check_rows(rows, 8, 4)


def test_training_reads_as_the_config_says(source):
    values = {'data': {'windows_per_read': 2}, 'training': {'batch_size': 4}}
    mesh = sharding.make_mesh(MeshConfig(), jax.devices()[:1])
    batches = loop.train_batches(Experiment.from_dict(values), source, mesh, 0)
    one, two = itertools.islice(batches, 2)
    np.testing.assert_array_equal(two.record[1::2], one.record[0::2])
    assert (two.start[1::2] != one.start[0::2]).any()
