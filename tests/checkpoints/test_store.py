"""The checkpoints of a run: which are kept, and what happens with damaged ones."""

import os

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.checkpoints import files
from perceiver_io.checkpoints.repair import UNFINISHED, repair
from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.errors import UserError

VALUES = jnp.asarray(np.random.default_rng(0).standard_normal(1000), jnp.float32)  # not packed
LIKE = {'module': {'w': jnp.zeros(1000)}}, {'step': jnp.int32(0)}


def state(step):
    return {'module': {'w': VALUES * step}}, {'step': jnp.int32(step)}


def save(workdir, *steps):
    store = CheckpointStore(workdir, keep=2)
    for step in steps:
        store.save(step, *state(step))
    store.close()


def largest(folder):
    return max((path for path in folder.rglob('*') if path.is_file()), key=os.path.getsize)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize('harm', [os.unlink, lambda path: os.truncate(path, 100), flip])
def test_a_damaged_checkpoint_is_set_aside(tmp_path, capfd, harm):
    save(tmp_path, 1, 2, 3)
    harm(largest(tmp_path / 'checkpoints' / '3'))
    repair(tmp_path)
    store = CheckpointStore(tmp_path, keep=2)
    params, training = store.restore(*LIKE)
    store.save(3, *state(3))  # there is room for it again
    store.close()
    assert training['step'] == 2 and (params['module']['w'] == VALUES * 2).all()
    [shown] = capfd.readouterr().err.splitlines()
    assert 'the checkpoint of step 3 is damaged' in shown and 'the one of step 2 is used' in shown
    assert [path.name[:2] for path in (tmp_path / 'damaged').iterdir()] == ['3-']
    assert {path.name for path in (tmp_path / 'checkpoints').glob('[0-9]*')} == {'2', '3'}


def test_damage_that_no_list_tells_is_found_while_reading(tmp_path, capfd):
    save(tmp_path, 1, 2, 3)
    newest = tmp_path / 'checkpoints' / '3'
    largest(newest).unlink()
    (newest / files.LIST).unlink()
    repair(tmp_path)
    store = CheckpointStore(tmp_path, keep=2)
    assert store.restore(*LIKE)[1]['step'] == 2
    store.close()
    assert 'the checkpoint of step 3 is damaged' in capfd.readouterr().err


def test_the_best_checkpoint_is_kept_when_a_run_goes_on(tmp_path):
    store = CheckpointStore(tmp_path)
    store.save(1, *state(1), {'loss': 1.0})
    store.save(2, *state(2), {'loss': 2.0})
    store.close()
    store = CheckpointStore(tmp_path)
    assert store.evaluated(1) and store.evaluated(2)
    store.save(3, *state(3))
    store.close()
    assert {path.name for path in (tmp_path / 'checkpoints').glob('[0-9]*')} == {'1', '3'}


def test_unfinished_checkpoints_are_removed(tmp_path):
    save(tmp_path, 1)
    (tmp_path / 'checkpoints' / f'2{UNFINISHED}').mkdir()
    repair(tmp_path)
    assert {path.name for path in (tmp_path / 'checkpoints').iterdir()} == {'1'}


def test_if_all_are_damaged_each_is_named(tmp_path):
    save(tmp_path, 1, 2)
    for step in '12':
        largest(tmp_path / 'checkpoints' / step).unlink()
    with pytest.raises(UserError, match=r'no checkpoint in .* can be read \(step 2: .*step 1: '):
        repair(tmp_path)
    store = CheckpointStore(tmp_path)
    with pytest.raises(UserError, match=r'no checkpoint in .* can be read \(step 2: .*step 1: '):
        store.restore(*LIKE)
    store.close()


def test_a_checkpoint_without_a_list_of_files_is_read(tmp_path):
    """Those of earlier versions have none."""
    save(tmp_path, 1)
    (tmp_path / 'checkpoints' / '1' / files.LIST).unlink()
    repair(tmp_path)
    store = CheckpointStore(tmp_path)
    assert store.restore(*LIKE)[1]['step'] == 1
    store.close()
