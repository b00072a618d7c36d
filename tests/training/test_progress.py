"""The training line: how much of the time the device waits for data. Time is simulated."""

import threading
import time

import pytest
import tqdm

from perceiver_io.training import progress
from perceiver_io.training.experiment import TrainingConfig
from perceiver_io.training.progress import TrainingLog

STEP = 0.05  # seconds that a step runs


class Clock:
    """A simulated time for each thread, in seconds, which stands still unless it is set."""

    def __init__(self):
        self._threads = threading.local()

    def __call__(self):
        return getattr(self._threads, 'now', 0.0)

    def wait_until(self, time):
        self._threads.now = max(self(), time)


class Step:
    """A metric that is there when its step is done, as one on a device is."""

    def __init__(self, clock, done_at):
        self._clock = clock
        self.done_at = done_at

    def __float__(self):
        self._clock.wait_until(self.done_at)
        return 1.0


class Writer:
    def __init__(self):
        self.written = []

    def bad_step(self, step, clips):
        self.bad = [*getattr(self, 'bad', []), (step, clips)]

    def scalars(self, step, values, group):
        self.written.append((step, values))


@pytest.fixture
def run(monkeypatch, capsys):
    """A loop as in `train.py`, whose batches take some seconds each; returns what came of it."""
    monkeypatch.setattr(progress.jax, 'device_get', lambda metrics: metrics)

    def run(read_seconds, steps=12, flush_at=()):
        writer, clock = Writer(), Clock()
        config = TrainingConfig(steps=steps, batch_size=2, log_every=4)
        log = TrainingLog(writer, config, 0, lambda update: 0.1 * update, clock)
        last = Step(clock, 0.0)
        for step in range(1, steps + 1):
            with log.waiting():
                clock.wait_until(clock() + read_seconds)
            previous, last = last, Step(clock, max(clock(), last.done_at) + STEP)
            log.add(step, {'loss': last})
            clock.wait_until(previous.done_at)  # `add` has waited for it
            if step in flush_at:
                log.flush()
                clock.wait_until(last.done_at + 0.3)  # an evaluation
        log.flush()
        log.close()
        run.rates = [values['learning_rate'] for _, values in writer.written]
        run.speeds = [values['examples_per_second'] for _, values in writer.written]
        waits = [values['data_wait'] for _, values in writer.written if 'data_wait' in values]
        return waits, capsys.readouterr().err

    return run


def test_reading_that_keeps_up_is_no_waiting(run):
    waits, shown = run(STEP / 3)
    assert waits == [0.0] * 3
    assert 'waiting for data' in shown and 'bottleneck' not in shown
    assert run.rates == pytest.approx([0.3, 0.7, 1.1])  # of updates 3, 7 and 11, from 0


def test_the_share_is_what_reading_takes_beyond_a_step(run):
    """A batch takes three steps' time, of which the device is busy for one: it waits for 2/3."""
    waits, _ = run(3 * STEP)
    assert waits == pytest.approx([2 / 3] * 3)
    assert run.speeds == pytest.approx([2 / (3 * STEP)] * 3)


def test_an_evaluation_is_no_waiting(run):
    waits, _ = run(STEP / 3, flush_at=(6,))
    assert waits == [0.0] * 3
    assert run.speeds == pytest.approx([2 / STEP] * 3)  # nor is it training time


def test_the_bottleneck_is_named_once_with_the_way_out(run, monkeypatch):
    monkeypatch.setattr(progress, '_PATIENCE', 0.2)
    _, shown = run(3 * STEP)
    assert shown.count('reading is the bottleneck') == 1
    assert 'raise --config.data.workers' in shown and 'perceiver-io prepare' in shown
    _, shown = run(STEP / 3)
    assert 'bottleneck' not in shown


def test_the_first_step_with_its_compilation_is_no_measure_of_the_time_left(monkeypatch):
    monkeypatch.setattr(progress.jax, 'device_get', lambda metrics: metrics)
    log = TrainingLog(Writer(), TrainingConfig(steps=100), 40, lambda step: 1.0)
    time.sleep(1.5)
    for step in range(41, 53):
        log.add(step, {'loss': 1.0})
        time.sleep(0.02)
    shown = log._bar.format_dict
    log.close()
    assert shown['n'] == 51
    assert shown['elapsed'] < 0.8  # of twelve steps
    assert (shown['n'] - shown['initial']) / shown['elapsed'] > 12


def test_the_numbers_fit_into_a_terminal_of_140_columns():
    metrics = {'loss/video': 0.0574, 'loss/audio': 0.082, 'loss/label': 1.224, 'data_wait': 0.01}
    metrics |= {'video_psnr': 19.54, 'audio_psnr': 19.6, 'examples_per_second': 21.34}
    line = progress._line(metrics)
    assert line == (
        'video 0.0574 19.5 dB, audio 0.0820 19.6 dB, label 1.224, 1% waiting for data, '
        '21.3 examples/s'
    )
    shown = tqdm.tqdm.format_meter(
        136, 50_000, 1e5, ncols=140, prefix='training', unit='step', postfix=line,
        bar_format=progress._FORMAT,
    )  # fmt: skip
    assert shown.startswith('training:   0% 136/50000 [')
    assert '1% waiting for data' in shown and len(shown) <= 140


def test_bad_steps_are_counted_and_stop_the_run_when_in_a_row(monkeypatch, capsys):
    monkeypatch.setattr(progress.jax, 'device_get', lambda metrics: metrics)
    writer = Writer()
    log = TrainingLog(
        writer, TrainingConfig(steps=9, max_bad_steps=2), first_step=0, schedule=lambda step: 1.0
    )
    good, bad = {'loss': 1.0, 'bad_step': 0.0}, {'loss': float('nan'), 'bad_step': 1.0}
    for step, metrics in enumerate([good, bad, good, bad], 1):
        log.add(step, metrics, [f'{step}.mp4'])
    log.flush()
    log.add(5, bad, ['5.mp4'])
    with pytest.raises(progress.NotFinite, match='loss is nan at step 5 .2 bad steps in a row.'):
        log.flush()
    log.close()
    assert writer.bad == [(2, ['2.mp4']), (4, ['4.mp4']), (5, ['5.mp4'])]
    assert 'step 2 was skipped' in capsys.readouterr().err
