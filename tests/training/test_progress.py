"""The training line: how much of the time the device waits for data."""

import time

import pytest

from perceiver_io.training import progress
from perceiver_io.training.experiment import TrainingConfig
from perceiver_io.training.progress import TrainingLog

STEP = 0.05  # seconds that a step runs


class Step:
    """A metric that is there when its step is done, as one on a device is."""

    free_at = 0.0  # when the device has done all that it was given

    def __init__(self, seconds=STEP):
        Step.free_at = max(Step.free_at, time.monotonic()) + seconds
        self._done_at = Step.free_at

    def __float__(self):
        time.sleep(max(0.0, self._done_at - time.monotonic()))
        return 1.0


class Writer:
    def __init__(self):
        self.written = []

    def scalars(self, step, values, group):
        self.written.append((step, values))


@pytest.fixture
def run(monkeypatch, capsys):
    """A loop as in `train.py`, whose batches take some seconds each; returns what came of it."""
    monkeypatch.setattr(progress.jax, 'device_get', lambda metrics: metrics)

    def run(read_seconds, steps=12, flush_at=()):
        writer = Writer()
        config = TrainingConfig(steps=steps, batch_size=2, log_every=4)
        log = TrainingLog(writer, config, first_step=0)
        for step in range(1, steps + 1):
            with log.waiting():
                time.sleep(read_seconds)
            log.add(step, {'loss': Step()})
            if step in flush_at:
                log.flush()
                time.sleep(0.3)  # an evaluation
        log.flush()
        log.close()
        run.speeds = [values['examples_per_second'] for _, values in writer.written]
        waits = [values['data_wait'] for _, values in writer.written if 'data_wait' in values]
        return waits, capsys.readouterr().err

    return run


def test_reading_that_keeps_up_is_no_waiting(run):
    waits, shown = run(STEP / 3)
    assert len(waits) == 3 and max(waits) < 0.1
    assert 'waiting for data' in shown and 'bottleneck' not in shown


def test_the_share_is_what_reading_takes_beyond_a_step(run):
    """A batch takes three steps' time, of which the device is busy for one: it waits for 2/3."""
    waits, _ = run(3 * STEP)
    assert waits[1:] == pytest.approx([2 / 3] * len(waits[1:]), abs=0.1)


def test_an_evaluation_is_no_waiting(run):
    waits, _ = run(STEP / 3, flush_at=(6,))
    assert max(waits) < 0.1
    assert min(run.speeds) > 0.7 * 2 / STEP  # nor is it training time


def test_the_bottleneck_is_named_once_with_the_way_out(run, monkeypatch):
    monkeypatch.setattr(progress, '_PATIENCE', 0.2)
    _, shown = run(3 * STEP)
    assert shown.count('reading is the bottleneck') == 1
    assert 'raise --config.data.workers' in shown
    _, shown = run(STEP / 3)
    assert 'bottleneck' not in shown
