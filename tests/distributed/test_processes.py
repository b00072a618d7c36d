"""Several processes on this machine, connected as those of a cluster are."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from helpers.several_processes import KEYS, STEPS, finish, start

import perceiver_io

FEW = KEYS | {'training.steps': 2, 'training.eval_every': 2, 'training.checkpoint_every': 2}


def metrics(workdir, name) -> dict[int, float]:
    """By step; of a step that was trained twice, what was written last."""
    lines = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    return {line['step']: line[name] for line in lines if name in line}


@pytest.fixture(scope='module')
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('alone') / 'run'
    finish(start(workdir, workdir.parent / 'cache', 1))
    return workdir


def test_two_processes_train_and_evaluate(tmp_path):
    shown = finish(start(tmp_path / 'run', tmp_path / 'cache', 2, keys=FEW))
    assert 'process 0 of 2, coordinator localhost:' in shown[0]
    assert metrics(tmp_path / 'run', 'train/loss').keys() == {1, 2}
    assert metrics(tmp_path / 'run', 'eval/loss').keys() == {2}


@pytest.mark.slow
@pytest.mark.parametrize('processes, context', [(2, 1), (4, 1), (2, 2), (4, 2)])
def test_several_processes_train_as_one_does(alone, tmp_path, processes, context):
    """With dropout, masked labels and random queries; evaluated on every clip once."""
    workdir = tmp_path / 'run'
    keys = KEYS | {'mesh.context': context}
    shown = finish(start(workdir, alone.parent / 'cache', processes, keys=keys))
    assert f'process 0 of {processes}, coordinator localhost:' in shown[0]
    assert_same_training(workdir, alone)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(alone, tmp_path):
    """Half of the steps on two processes; then the rest on one, four and two."""
    half, cache = tmp_path / 'half', alone.parent / 'cache'
    finish(start(half, cache, 2))
    shutil.rmtree(half / 'checkpoints' / str(STEPS))
    for processes in (1, 4, 2):
        workdir = tmp_path / f'on_{processes}'
        shutil.copytree(half, workdir)
        shown = finish(start(workdir, cache, processes))
        assert f'continuing at step {STEPS // 2}' in shown[0]
        assert_same_training(workdir, alone)


def assert_same_training(workdir: pathlib.Path, alone: pathlib.Path) -> None:
    for name in ('train/loss', 'eval/loss', 'eval/video_psnr', 'eval/clips'):
        ours, theirs = metrics(workdir, name), metrics(alone, name)
        assert len(ours) == (STEPS if name == 'train/loss' else 2)
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(
            [*ours.values()], [*theirs.values()], rtol=1e-5, atol=1e-5, err_msg=name
        )
    ours, theirs = (jax.device_get(perceiver_io.load(path)[1]) for path in (workdir, alone))
    for module, leaves in theirs.items():
        for name, leaf in leaves.items():
            # A bias of keys has gradient 0: AdamW turns its rounding errors into whole steps.
            if not (name == 'b' and module.endswith('attention/linear_1')):
                np.testing.assert_allclose(
                    ours[module][name], leaf, atol=1e-4, err_msg=f'{module}/{name}'
                )
