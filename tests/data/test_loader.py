import contextlib
import dataclasses
import gc
import itertools
import multiprocessing
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import folder, loader, rendered, sampling
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.records import Selection
from perceiver_io.media import reader

ROOT = pathlib.Path(__file__).resolve().parents[2]
SPEC = ClipSpec(frames=4, height=16, width=16)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return rendered.render_folder(
        tmp_path_factory.mktemp('cache'),
        train_clips=10,
        val_clips=3,
        size=16,
        seconds=0.6,
        progress=False,
    )


@pytest.fixture(scope='module')
def source(root):
    """Ten clips."""
    return folder.open_folder(root, Selection('train', SPEC), progress=False)


@pytest.fixture
def break_clips(root, tmp_path):
    """A copy of `source` with some of its files spoilt after they were probed."""

    def break_clips(*indices):
        copy = tmp_path / 'copy'
        shutil.copytree(root, copy, dirs_exist_ok=True)
        source = folder.open_folder(copy, Selection('train', SPEC), progress=False)
        for index in indices:
            pathlib.Path(source.records[index].media).write_bytes(b'spoilt')
        return source

    return break_clips


def train(source, count, spec=SPEC, batch_size=4, seed=0, **arguments):
    batches = loader.train_batches(source, spec, batch_size=batch_size, seed=seed, **arguments)
    batches = list(itertools.islice(batches, count))
    assert len(batches) == count
    return batches


def evaluate(source, spec=SPEC, batch_size=4, **arguments):
    return list(loader.evaluation_batches(source, spec, batch_size=batch_size, **arguments))


def divided(count):
    """The rows of each of so many processes, of batches of 4."""
    return np.arange(4).reshape(count, -1).tolist()


def examples(batches):
    """Each example as (video, audio, label, mask, record, start, failed)."""
    return [example for batch in batches for example in zip(*batch.clip, *batch[1:5])]


def joined(parts):
    """The examples of all processes, in the order of the global batches."""
    return examples(batch for group in zip(*parts, strict=True) for batch in group)


def assert_same(one, other):
    assert len(one) == len(other) > 0
    for left, right in zip(one, other):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_batch(source):
    [batch] = train(source, 1)
    video, audio, label = batch.clip
    assert video.shape == (4, 4, 16, 16, 3) and video.dtype == np.uint8
    assert audio.shape == (4, 7_680, 1) and audio.dtype == np.int16
    assert label.shape == (4,) and label.dtype == np.int32
    assert [array.dtype for array in batch[1:5]] == [np.bool_, np.int32, np.float32, np.int32]
    assert batch.mask.all() and (batch.failed == -1).all() and not batch.reasons
    assert loader.failures(batch, source) == []


def test_a_batch_holds_the_windows_it_says(source):
    for video, audio, label, _, index, start, *_ in examples(train(source, 3)):
        record = source.records[index]
        clip = reader.read_window(record.media, float(start), SPEC)
        np.testing.assert_array_equal(video, clip.video)
        # The start is reported in float32: one sample may come from the neighbouring place.
        assert np.corrcoef(audio[:, 0], clip.audio[:, 0])[0, 1] > 0.999
        assert label == record.label and source.classes[label] in record.name
        assert 0 <= start <= record.seconds - SPEC.seconds


def test_batches_do_not_depend_on_threads_and_workers(source):
    """Over an epoch's end, and where neither epoch nor shard is a whole number of batches."""
    plain = examples(train(source, 4, threads=1))
    assert_same(plain, examples(train(source, 4, threads=3)))
    assert_same(plain, examples(train(source, 4, workers=1, threads=1)))
    assert_same(plain, examples(train(source, 4, workers=2, threads=2)))


def test_workers_leave_ctrl_c_to_the_main_process(source, capfd):
    with contextlib.closing(
        loader.train_batches(source, SPEC, batch_size=4, seed=0, workers=1)
    ) as batches:
        next(batches)
        workers = multiprocessing.active_children()
        assert workers
        for worker in workers:  # as a terminal does
            os.kill(worker.pid, signal.SIGINT)
        for _ in range(20):
            next(batches)
    assert 'KeyboardInterrupt' not in capfd.readouterr().err


def test_evaluation_does_not_depend_on_workers(source):
    assert_same(
        examples(evaluate(source, windows=2)), examples(evaluate(source, windows=2, workers=2))
    )
    held = [one for one in gc.get_objects() if type(one).__name__ == 'SharedMemoryArray']
    assert not held  # the memory that workers share is free again


@pytest.mark.parametrize('first_step', [1, 3, 7])
def test_resuming(source, first_step):
    assert_same(
        examples(train(source, 8)[first_step:]),
        examples(train(source, 8 - first_step, first_step=first_step)),
    )


def test_processes_divide_the_global_batches(source):
    whole = examples(train(source, 6, first_step=1))
    for count in (2, 4):
        parts = [train(source, 6, first_step=1, rows=rows) for rows in divided(count)]
        assert len(parts[0][0].mask) == 4 // count
        assert_same(whole, joined(parts))
    # On TPUs, the devices of a process need not be neighbours.
    part = train(source, 6, first_step=1, rows=[1, 3], workers=2, threads=2)
    assert_same(examples(part), [row for k in range(6) for row in whole[4 * k + 1 : 4 * k + 4 : 2]])


def test_every_epoch_has_every_clip_once_in_another_order_with_other_windows(source):
    batches = train(source, 6, batch_size=5)
    records = np.concatenate([batch.record for batch in batches]).reshape(3, 10)
    starts = np.concatenate([batch.start for batch in batches]).reshape(3, 10)
    np.testing.assert_array_equal(np.sort(records), np.tile(np.arange(10), (3, 1)))
    assert len({tuple(epoch) for epoch in records}) == 3
    starts_of_clip = np.take_along_axis(starts, records.argsort(axis=1), axis=1).T
    assert sum(len(set(clip)) > 1 for clip in starts_of_clip) >= 9  # of 12 places, three times
    assert len(np.unique(starts)) > 8


def test_the_seed_decides(source):
    one, other = train(source, 2, seed=1), train(source, 2, seed=2)
    assert any((a.record != b.record).any() for a, b in zip(one, other))


def test_fewer_clips_than_a_batch(source):
    few = dataclasses.replace(source, records=source.records[:3])
    [one, other] = train(few, 2, batch_size=8)
    records = np.concatenate([one.record, other.record])
    assert len(records) == 16 and set(np.bincount(records)) <= {5, 6}
    [batch] = evaluate(few, batch_size=8)
    assert batch.mask.tolist() == [True] * 3 + [False] * 5


@pytest.mark.parametrize('process_count', [1, 2, 4])
@pytest.mark.parametrize('windows', [1, 3])
def test_evaluation_has_every_window_once(source, process_count, windows):
    parts = [evaluate(source, windows=windows, rows=rows) for rows in divided(process_count)]
    assert {len(part) for part in parts} == {-(-10 * windows // 4)}
    assert {batch.mask.shape for part in parts for batch in part} == {(4 // process_count,)}
    everything = joined(parts)
    real = [(index, start) for _, _, _, mask, index, start, *_ in everything if mask]
    assert real == [
        (index, np.float32(start))
        for index, record in enumerate(source.records)
        for start in sampling.uniform_starts(record.seconds, SPEC, windows)
    ]
    for video, audio, label, mask, index, _, failed in everything[len(real) :]:
        assert not mask and not video.any() and not audio.any()
        assert label == index == failed == -1


def test_augmentation_changes_video_and_nothing_else(source):
    plain = examples(train(source, 4))
    changed = examples(train(source, 4, augmentation=Augmentation(flip=True)))
    mirrored = 0
    for before, after in zip(plain, changed, strict=True):
        assert_same([before[1:]], [after[1:]])
        if (before[0] != after[0]).any():
            np.testing.assert_array_equal(after[0], before[0][:, :, ::-1])
            mirrored += 1
    assert 0 < mirrored < 16


def test_augmentation_depends_on_the_seed_alone(source):
    both = Augmentation(flip=True, colour_jitter=0.4)
    whole = examples(train(source, 4, augmentation=both))
    assert_same(whole, examples(train(source, 4, augmentation=both, threads=3)))
    assert_same(whole[8:], examples(train(source, 2, augmentation=both, first_step=2)))
    other = examples(train(source, 4, augmentation=both, seed=1))
    assert any((one[0] != two[0]).any() for one, two in zip(whole, other))


@pytest.mark.parametrize('bad', [(4,), (4, 5), (9,)])
def test_a_bad_clip_is_replaced_in_training(source, break_clips, bad):
    good, spoilt = train(source, 5), break_clips(*bad)
    broken = train(spoilt, 5)
    seen = 0
    for before, after in zip(examples(good), examples(broken)):
        if before[4] not in bad:
            assert_same([before], [after])
            continue
        seen += 1
        _, _, label, mask, index, start, failed = after
        assert mask and failed == before[4]
        assert index == next(i % 10 for i in range(failed + 1, 20) if i % 10 not in bad)
        assert label == source.records[index].label
    assert seen == 2 * len(bad)  # two epochs
    named = [failure for batch in broken for failure in loader.failures(batch, spoilt)]
    assert {name for name, _ in named} == {source.records[index].name for index in bad}
    assert len(named) == seen and all(reason for _, reason in named)
    assert_same(examples(broken), examples(train(spoilt, 5)))


def test_a_bad_clip_is_masked_in_evaluation(source, break_clips):
    spoilt = break_clips(4)
    pathlib.Path(spoilt.records[6].media).unlink()
    good, broken = evaluate(source, windows=2), evaluate(spoilt, windows=2)
    for before, after in zip(examples(good), examples(broken), strict=True):
        if before[4] not in (4, 6):
            assert_same([before], [after])
            continue
        video, _, label, mask, index, _, failed = after
        assert not mask and not video.any() and label == -1
        assert index == failed == before[4]
    named = [failure for batch in broken for failure in loader.failures(batch, spoilt)]
    assert [name for name, _ in named] == [source.records[i].name for i in (4, 4, 6, 6)]
    assert all(reason for _, reason in named)


def test_no_clip_can_be_read(source, break_clips):
    spoilt = break_clips(*range(10))
    for workers in (0, 1):
        with pytest.raises(ValueError, match=r'cannot read train/\w+\.mp4 \(.*\), nor the 9 clips'):
            train(spoilt, 1, workers=workers)
    assert not any(batch.mask.any() for batch in evaluate(spoilt))


@pytest.mark.parametrize('workers', [0, 1])
def test_reasons_stay_with_the_process_that_reads(source, break_clips, workers):
    spoilt = break_clips(4)
    parts = [evaluate(spoilt, rows=rows, workers=workers) for rows in divided(2)]
    named = [
        [failure for batch in part for failure in loader.failures(batch, spoilt)] for part in parts
    ]
    why = loader.why_unreadable(spoilt, 4, SPEC)
    assert 'damaged' in why
    assert named == [[(source.records[4].name, why)], []]  # row 0 of batch 1
    assert 'can be read now' in loader.why_unreadable(source, 4, SPEC)


SCRIPT = """
import pathlib, pickle, sys
from perceiver_io.data import loader

if __name__ == '__main__':
    source, spec = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())
    batches = loader.train_batches(source, spec, batch_size=4, seed=0, workers=2)
    next(batches)
"""


def test_a_script_needs_no_flags_and_no_clean_up(source, tmp_path):
    (tmp_path / 'source').write_bytes(pickle.dumps((source, SPEC)))
    (tmp_path / 'script.py').write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, tmp_path / 'script.py', tmp_path / 'source'],
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_video_or_audio_alone(source):
    [batch] = train(source, 1, spec=dataclasses.replace(SPEC, audio=False))
    assert batch.clip.audio is None and batch.clip.video.any()
    for batch in evaluate(source, spec=dataclasses.replace(SPEC, video=False)):
        assert batch.clip.video is None and batch.clip.audio[batch.mask].any()


@pytest.mark.parametrize(
    'wrong, message',
    [
        ({'rows': []}, r'rows=\[\]'),
        ({'batch_size': 0}, 'batch_size=0'),
        ({'rows': [3, 4]}, r'batch_size=4 must be at least 1, and rows=\[3, 4\] below it'),
        ({'workers': -1}, 'workers=-1'),
        ({'threads': 0}, 'threads=0'),
        ({'first_step': -1}, 'first_step=-1'),
        ({'seed': -1}, 'seed=-1'),
    ],
)
def test_wrong_arguments(source, wrong, message):
    with pytest.raises(ValueError, match=message):
        train(source, 1, **wrong)


@pytest.mark.parametrize('wrong', [{'windows': 0}, {'first_batch': -1}])
def test_wrong_arguments_of_an_evaluation(source, wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}={next(iter(wrong.values()))}'):
        evaluate(source, **wrong)


def test_windows_lie_inside_the_clip():
    spec = ClipSpec(frames=25)  # 1 s
    assert sampling.uniform_starts(5.0, spec, 1) == [2.0] == [sampling.centre_start(5.0, spec)]
    assert sampling.uniform_starts(5.0, spec, 3) == [0.0, 2.0, 4.0]
    assert sampling.uniform_starts(1.0, spec, 3) == [0.0, 0.0, 0.0]
    starts = [sampling.random_starts(np.random.default_rng(i), 5.0, spec)[0] for i in range(500)]
    assert 0 <= min(starts) < 0.1 and 3.9 < max(starts) <= 4
    # Half a frame may lack, because the reader allows it.
    assert sampling.fits(0.981, spec) and sampling.centre_start(0.981, spec) == 0
    assert not sampling.fits(0.979, spec)
    with pytest.raises(ValueError, match='shorter than a window of 1.00 s'):
        sampling.random_starts(np.random.default_rng(0), 0.979, spec)


def test_real_clips(shared_clips):
    source = folder.open_folder(
        shared_clips / 'real',
        Selection('train', ClipSpec()),
        csv='../kinetics_labels.csv',
        progress=False,
    )
    spec = ClipSpec(height=56, width=56)
    batches = evaluate(source, spec, batch_size=8)
    assert sum(batch.mask.sum() for batch in batches) == len(source.records)
    assert all(video.std() > 5 for batch in batches for video in batch.clip.video[batch.mask])
    [batch] = train(source, 1, spec, batch_size=8, workers=1)
    assert batch.clip.video.shape == (8, 16, 56, 56, 3) and not loader.failures(batch, source)


def test_windows_start_with_a_frame_of_the_output():
    spec = ClipSpec(frames=16, height=8, width=8)
    for seconds in (0.64, 9.97, 10.0, 10.011):
        starts = [
            sampling.random_starts(np.random.default_rng(i), seconds, spec)[0] for i in range(300)
        ]
        starts += sampling.uniform_starts(seconds, spec, 7)
        starts.append(sampling.centre_start(seconds, spec))
        frames = np.array(starts) * spec.frame_rate
        np.testing.assert_allclose(frames, np.rint(frames), atol=1e-9)
        assert min(starts) == 0 and max(starts) + spec.seconds <= seconds + 1e-6
        assert max(starts) + spec.seconds > seconds - 1 / spec.frame_rate
