"""A disk without room: what is saved, and what `metrics.jsonl` is then."""

import collections
import json
import types

import jax.numpy as jnp
import pytest
from helpers.small_disk import fill, small_disk

from perceiver_io.checkpoints import repair
from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.errors import UserError
from perceiver_io.training import saving
from perceiver_io.training.metric_writer import MetricWriter
from perceiver_io.training.steps import TrainState


def test_a_state_is_saved_only_where_it_fits(monkeypatch, tmp_path):
    state = TrainState(jnp.int32(7), {'a': {'w': jnp.zeros((1000, 1000))}}, ())
    saved: list[int] = []
    checkpoints = types.SimpleNamespace(
        folder=tmp_path,
        wait=lambda: None,
        latest_step=lambda: 5,
        save=lambda step, *_: saved.append(step),
    )
    usage = collections.namedtuple('usage', 'free')
    monkeypatch.setattr(saving.shutil, 'disk_usage', lambda _: usage(4_200_000))
    with pytest.raises(UserError, match='step 7 needs 4.3 MB, 4.2 MB are free .that of step 5'):
        saving.save(checkpoints, state)
    assert not saved
    monkeypatch.setattr(saving.shutil, 'disk_usage', lambda _: usage(4_300_000))
    saving.save(checkpoints, state)
    assert saved == [7]


def test_a_disk_that_fills_up_while_a_checkpoint_is_written(tmp_path, capfd):
    params, training = {'a': {'w': jnp.zeros(1000)}}, {'step': jnp.int32(1)}
    with small_disk(tmp_path, 4096):
        store = CheckpointStore(tmp_path)
        store.save(1, params, training)
        store.wait()
        fill(tmp_path, 8192)
        with pytest.raises(UserError, match='full: the checkpoint of step 2 could not be written'):
            store.save(2, params, training)
            store.close()
        assert (tmp_path / 'checkpoints' / '1').exists()
        repair.repair(tmp_path)
        assert [path.name for path in (tmp_path / 'checkpoints').iterdir()] == ['1']
    assert 'Traceback' not in capfd.readouterr().err


def test_metrics_on_a_full_disk(tmp_path, capfd):
    """An error that names the disk; a part of a line is cut off when the run goes on."""
    with small_disk(tmp_path, 1024):
        writer = MetricWriter.open(tmp_path, '{}')
        ballast = fill(tmp_path, 0)
        with pytest.raises(OSError, match='No space left') as caught:
            for step in range(1000):
                writer.scalars(step, {str(number): 0.1 for number in range(20)}, 'train')
        assert str(tmp_path) in caught.value.filename
        writer.close()
        ballast.unlink()
        with open(tmp_path / 'metrics.jsonl', 'a') as file:
            file.write('{"step": 10')
        writer = MetricWriter.open(tmp_path, '{}')
        writer.scalars(2000, {}, 'train')
        writer.close()
        text = (tmp_path / 'metrics.jsonl').read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert lines[-1] == {'step': 2000}
        assert [line['step'] for line in lines[:-1]] == list(range(len(lines) - 1))
    assert 'Traceback' not in capfd.readouterr().err
