"""Files that would take all memory or never end: refused by their size or kind, unread."""

import json
import os
import pickle
import struct

import jax
import numpy as np
import pytest
from helpers.small_checkpoints import make_checkpoint

from perceiver_io import cli
from perceiver_io.checkpoints import loading, store, writing
from perceiver_io.training import run_folder
from perceiver_io.training.experiment import Experiment

HUGE = 1 << 40  # bytes of a file with a hole, which takes no room on disk


def refusal(path) -> str:
    with pytest.raises(ValueError) as info:
        loading.load_checkpoint(path)
    text = cli.message(info.value)
    assert text is not None and '\n' not in text
    return text


@pytest.mark.parametrize(
    'name, start',
    [
        ('x.pystate', b'\x80\x04}X\x01\0\0\0a\x8e' + struct.pack('<Q', HUGE // 2)),
        ('model.safetensors', struct.pack('<Q', 2) + b'{}'),
        ('pytorch_model.bin', b'PK\x03\x04'),
        ('pytorch_model.bin', b'\x80\x02'),
    ],
)
def test_a_huge_file_is_not_read(tmp_path, name, start):
    (tmp_path / name).write_bytes(start)
    os.truncate(tmp_path / name, HUGE)
    assert 'it has 1,099,511,627,776 bytes, and nothing' in refusal(tmp_path / name)


def test_what_lies_beside_weights_may_be_hostile_too(tmp_path):
    writing.write_pystate(tmp_path / 'x.pystate', make_checkpoint())
    beside = tmp_path / 'x.json'
    os.truncate(beside, HUGE)
    assert 'x.json: it has 1,099,511,627,776 bytes' in refusal(tmp_path / 'x.pystate')
    beside.unlink()
    os.mkfifo(beside)
    assert 'x.json: it is not a regular file' in refusal(tmp_path / 'x.pystate')
    beside.unlink()
    beside.symlink_to('/dev/zero')
    assert 'x.json: it is not a regular file' in refusal(tmp_path / 'x.pystate')


@pytest.mark.parametrize(
    'name, read', [(loading.CONFIG, loading.read_config), (loading.CLASSES, loading.read_classes)]
)
def test_a_run_with_a_huge_file(tmp_path, name, read):
    (tmp_path / name).write_text('[]')
    os.truncate(tmp_path / name, HUGE)
    with pytest.raises(ValueError, match='damaged'):
        read(tmp_path)


def save_run(folder, loaded, **model):
    """A run of these weights, whose config then says something else of the model."""
    run_folder.start_run(folder, Experiment(model=loaded.config), loaded.classes)
    store.write_params(folder, loaded.params, 1)
    values = json.loads((folder / loading.CONFIG).read_text())
    values['model'] |= model
    (folder / loading.CONFIG).write_text(json.dumps(values))
    return folder


def test_the_config_of_a_run_takes_no_time(tmp_path):
    """Nothing as large as it says is traced before it is seen that the arrays are others."""
    tmp_path.joinpath('run').mkdir()
    run = save_run(tmp_path / 'run', make_checkpoint(), self_attends=400)
    assert 'it has 2 layers of self-attention, and not 400' in refusal(run)


def test_a_run_that_is_not_finite(tmp_path):
    loaded = make_checkpoint()
    loaded.params['encoder/~/trainable_position_encoding']['pos_embs'][0, 0] = np.nan
    tmp_path.joinpath('run').mkdir()
    assert 'step 1 holds NaN or infinity' in refusal(save_run(tmp_path / 'run', loaded))


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize('make', [np.asarray, np.asfortranarray])
def test_pickles_of_every_protocol_are_read(tmp_path, protocol, make):
    loaded = make_checkpoint(self_attends=1)
    writing.write_pystate(tmp_path / 'x.pystate', loaded)
    tree = {
        module: {name: make(leaf) for name, leaf in leaves.items()}
        for module, leaves in loaded.params.items()
    }
    (tmp_path / 'x.pystate').write_bytes(pickle.dumps(tree, protocol))
    read = loading.load_checkpoint(tmp_path / 'x.pystate').params
    jax.tree.map(np.testing.assert_array_equal, read, loaded.params)
