"""`train.py` as its users run it: to the end, killed and started again, and with wrong input."""

import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import chex
import jax
import numpy as np
import pytest
from helpers.event_files import events
from helpers.tiny import TINY_DEMO

import perceiver_io
from perceiver_io.configs import demo
from perceiver_io.core.errors import UserError
from perceiver_io.training import accounting
from perceiver_io.training.progress import NotFinite, check_finite
from perceiver_io.training.run_lock import LOCK, run_lock

ROOT = pathlib.Path(__file__).resolve().parents[2]
RATE = demo.get_config().optimizer.learning_rate


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('cache')


def command(workdir, cache, **overrides) -> list[str]:
    keys = (
        TINY_DEMO
        | {'data.cache': str(cache)}
        | {name.replace('__', '.'): value for name, value in overrides.items()}
    )
    return [
        sys.executable,
        str(ROOT / 'train.py'),
        f'--config={ROOT}/configs/demo.py',
        f'--workdir={workdir}',
        '--histograms',
        '--gradient_norms',
        '--selectivity',
        *[f'--config.{name}={value}' for name, value in keys.items()],
    ]


def run(*args, **overrides) -> subprocess.CompletedProcess:
    return subprocess.run(command(*args, **overrides), text=True, capture_output=True, timeout=400)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, cache):
    """The folder of a run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp('undisturbed')
    profiled = [*command(workdir, cache), '--profile=2', '--watchdog=60']
    done = subprocess.run(profiled, text=True, capture_output=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    assert '1 x cpu (data 1 x context 1); parameters and optimizer take 0.' in done.stderr
    return workdir


def test_a_run_leaves_what_it_promises(finished):
    lines = [json.loads(line) for line in (finished / 'metrics.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines if 'train/loss' in line] == [4, 8, 12, 16, 20, 24]
    evaluations = [line for line in lines if 'eval/loss' in line]
    assert [line['step'] for line in evaluations] == [12, 24]
    assert set(evaluations[0]) >= {
        'eval/video_psnr',
        'eval/audio_psnr',
        'eval/top_1',
        'eval/mean_colour',
        'eval/silence',
    }
    assert all(line['eval/clips'] == 6 for line in evaluations)
    waits = [line['train/data_wait'] for line in lines if 'train/data_wait' in line]
    assert waits and 0 <= min(waits) <= max(waits) <= 1
    rates = [line['train/learning_rate'] for line in lines if 'train/learning_rate' in line]
    assert 0 < rates[-1] < rates[0] == pytest.approx(RATE)  # the end of the cosine, and the peak
    [seconds] = [line for line in lines if 'seconds/step' in line]
    assert seconds['step'] == 24 and seconds.keys() - {'step'} == {
        f'seconds/{part}' for part in accounting.PARTS
    }
    assert [key for key, value in seconds.items() if not value] == ['seconds/replay']
    groups = {key.split('/')[-1] for key in lines[0] if key.startswith('train/gradient_norm/')}
    assert groups == {
        *('latents', 'encoder', 'self_attends', 'decoder'),
        *('video', 'audio', 'label'),
    }
    assert {
        (line['step'], 'selectivity/audio_variation' in line)
        for line in lines
        if 'selectivity/tokens_per_latent' in line
    } == {(12, True), (24, True)}
    shown = events(finished / 'tensorboard')
    for tag in ('reconstruction', 'reconstruction_2', 'reconstruction_3', 'original_2'):
        assert {step for step, _ in shown[tag]} == {12, 24}, tag
    parameters = perceiver_io.load(finished)[1]
    names = {f'{module}/{name}' for module in parameters for name in parameters[module]}
    assert {name.replace('~', '_') for name in names} <= {*shown}  # tensorboardX replaces it
    steps = {int(path.name) for path in (finished / 'checkpoints').iterdir() if path.name.isdigit()}
    assert {20, 24} <= steps and len(steps) <= 3  # the newest two, and the best
    assert json.loads((finished / 'classes.json').read_text())[0] == 'circle'


def test_a_profile_names_the_parts_of_the_network(finished):
    [path] = (finished / 'profile').rglob('*.xplane.pb')
    recorded = path.read_bytes()
    for name in (b'/read/', b'/process_0/', b'/decode/', b'/optimizer/'):
        assert name in recorded, name


def test_load_gives_the_model_back(finished):
    model, params = perceiver_io.load(finished)
    clip = {
        'video': np.zeros((1, 4, 16, 16, 3), np.float32),
        'audio': np.zeros((1, 7680, 1), np.float32),
    }
    output = model.reconstruct(params, **clip)
    assert output.video.shape == (1, 4, 16, 16, 3) and output.label.shape == (1, 6)
    assert np.isfinite(output.audio).all()


def checkpoint_steps(workdir) -> set[int]:
    folder = workdir / 'checkpoints'
    return {int(path.name) for path in folder.glob('[0-9]*') if path.name.isdigit()}


def until(process, reached) -> None:
    """Waits while the process runs and something is not yet so."""
    while process.poll() is None and not reached():
        time.sleep(0.02)


def start(*args, **overrides) -> subprocess.Popen:
    return subprocess.Popen(
        command(*args, **overrides), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def test_stopped_and_killed_it_is_the_same_run(finished, tmp_path, cache):
    """SIGTERM and SIGKILL at random moments: the parameters are those of the undisturbed run."""
    rng = random.Random(f'{os.environ.get("PYTEST_CURRENT_TEST")} {time.time()}')
    workdir = tmp_path / 'run'
    process = start(workdir, cache)
    until(process, lambda: (workdir / 'config.json').exists())
    time.sleep(rng.uniform(0, 8))  # it compiles, reads, trains, evaluates or saves
    process.send_signal(signal.SIGTERM)
    shown = process.communicate(timeout=300)[1]
    assert process.returncode == 0 and 'Traceback' not in shown
    stopped = checkpoint_steps(workdir)
    if stopped != {24}:
        assert 'stopped by SIGTERM' in shown and f'--workdir={workdir}' in shown
    process = start(workdir, cache)
    until(process, lambda: checkpoint_steps(workdir) - stopped)
    time.sleep(rng.uniform(0, 0.5))
    process.kill()
    process.communicate()
    done = run(workdir, cache)
    assert done.returncode == 0, done.stderr[-3000:]
    if checkpoint_steps(workdir) - {24}:
        assert 'continuing at step ' in done.stderr
    ours, theirs = (jax.device_get(perceiver_io.load(path)[1]) for path in (workdir, finished))
    chex.assert_trees_all_equal(ours, theirs)


@pytest.mark.parametrize(
    'overrides, status, message',
    [
        ({'model__classes': 3}, 2, '--config.model.classes=6'),
        ({'data__classes': "('stars',)"}, 2, "did you mean 'star'?"),
    ],
)
def test_the_classes_must_fit_the_clips(tmp_path, cache, finished, overrides, status, message):
    done = run(tmp_path / 'run', cache, **overrides)
    assert done.returncode == status
    assert message in done.stderr
    assert 'Traceback' not in done.stderr


def test_two_runs_do_not_train_in_one_folder(tmp_path, cache):
    with run_lock(tmp_path):
        done = run(tmp_path, cache)
    assert done.returncode == 1
    assert f'another run (host {socket.gethostname()}, pid {os.getpid()}) trains' in done.stderr
    with run_lock(tmp_path), pytest.raises(UserError, match='another run'), run_lock(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_a_start_that_fails_leaves_no_folder(tmp_path):
    with pytest.raises(UserError), run_lock(tmp_path / 'run'):
        assert (tmp_path / 'run' / LOCK).exists()
        raise UserError('no clips')
    assert not (tmp_path / 'run').exists()


def test_changes_are_named_or_refused(finished, cache, tmp_path):
    """Also if the run has come to its end."""
    workdir = tmp_path / 'run'
    shutil.copytree(finished, workdir)
    done = run(workdir, cache, training__batch_size=8, optimizer__learning_rate=1.0)
    assert done.returncode == 1
    assert 'training.batch_size (4 then, 8 now)' in done.stderr
    assert f'optimizer.learning_rate ({RATE} then, 1.0 now)' in done.stderr
    done = run(workdir, cache, training__log_every=2)
    assert done.returncode == 0
    assert 'changed: training.log_every is 2, it was 4' in done.stderr


def test_another_model_does_not_go_on_with_a_run(finished, cache):
    done = run(finished, cache, model__latents=16)
    assert done.returncode == 1 and 'latents (8 then, 16 now)' in done.stderr


@pytest.mark.slow
def test_not_finite_is_named_with_its_step(tmp_path, cache):
    done = run(tmp_path / 'run', cache, optimizer__learning_rate=1e30, optimizer__clip_norm=0.0)
    assert done.returncode == 1
    assert ' is nan at step ' in done.stderr or ' is inf at step ' in done.stderr


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(NotFinite, match='loss/audio is nan at step 7'):
        check_finite(7, {'loss/video': 1.0, 'loss/audio': float('nan')})
