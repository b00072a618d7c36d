"""A disk without room for a checkpoint: one line, exit status 1, and the older checkpoint stays."""

import collections
import contextlib
import os
import pathlib
import subprocess
import sys
import types

import jax.numpy as jnp
import pytest
from helpers.tiny import TINY_DEMO

from perceiver_io.core.errors import UserError
from perceiver_io.training import saving
from perceiver_io.training.steps import TrainState

ROOT = pathlib.Path(__file__).resolve().parents[2]


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


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, kilobytes: int):
    options = f'size={kilobytes}k'
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f'a tmpfs cannot be mounted here: {mounted.stderr.strip()}')
    try:
        yield
    finally:
        subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize('kilobytes, steps', [(700, set()), (1700, {5})])
def test_a_full_disk_is_one_line(tmp_path, kilobytes, steps):
    """Without and with room for a first checkpoint; then with room again, to the end."""
    if os.geteuid() != 0:
        pytest.skip('only root mounts a small disk')
    disk = tmp_path / 'disk'
    disk.mkdir()
    keys = TINY_DEMO | {'training.eval_every': 0, 'data.cache': str(tmp_path / 'cache')}
    command = [
        sys.executable,
        str(ROOT / 'train.py'),
        f'--config={ROOT}/configs/demo.py',
        f'--workdir={disk}/run',
        *[f'--config.{name}={value}' for name, value in keys.items()],
    ]
    with small_disk(disk, kilobytes):
        done = subprocess.run(command, text=True, capture_output=True, timeout=300)
        assert done.returncode == 1, done.stderr
        assert done.stderr.splitlines()[-1].startswith(f'error: the disk of {disk}/run/checkpoints')
        assert 'Traceback' not in done.stderr and len(done.stderr.splitlines()) < 20
        folder = disk / 'run' / 'checkpoints'
        assert {int(path.name) for path in folder.glob('*')} == steps
        subprocess.run(['mount', '-o', 'remount,size=20m', str(disk)], check=True)
        done = subprocess.run(command, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert ('continuing at step 5' in done.stderr) == bool(steps)
