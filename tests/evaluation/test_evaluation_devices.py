"""Evaluation on several devices and several processes: the results of one device, clip by clip."""

import json
import pathlib
import socket
import subprocess
import sys

import pytest
from helpers.runs import ROOT, VAL_CLIPS, make_run, play, read_csv
from helpers.several_devices import environment


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('devices') / 'run')


def evaluate(run: pathlib.Path, out: pathlib.Path, processes: int, devices: int) -> list[str]:
    """Evaluates in new processes of so many devices each; returns what each printed."""
    with socket.socket() as port:
        port.bind(('localhost', 0))
        address = f'localhost:{port.getsockname()[1]}'
    command = [
        sys.executable,
        str(ROOT / 'eval.py'),
        f'--checkpoint={run}',
        f'--output={out}',
        '--batch_size=8',
        '--videos=1',
        '--noreport',
        '--data.eval_windows=2',
    ]
    distributed = [
        '--distributed',
        f'--coordinator_address={address}',
        f'--num_processes={processes}',
    ]
    started = [
        subprocess.Popen(
            command + (distributed + [f'--process_id={index}'] if processes > 1 else []),
            env=environment(devices),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    results = [process.communicate(timeout=300) for process in started]
    for process, (_, errors) in zip(started, results):
        assert process.returncode == 0, errors[-3000:]
    if processes > 1:
        assert f'process 0 of {processes}, coordinator {address}' in results[0][1]
    return [printed for printed, _ in results]


@pytest.fixture(scope='module')
def single(run, tmp_path_factory):
    out = tmp_path_factory.mktemp('single')
    evaluate(run, out, 1, 1)
    return out


@pytest.mark.slow
@pytest.mark.parametrize('processes, devices', [(2, 2), (1, 4), (4, 2)])
def test_results_are_those_of_one_device(run, single, tmp_path, processes, devices):
    printed = evaluate(run, tmp_path, processes, devices)
    assert [('Table 5' in text) for text in printed] == [True] + [False] * (processes - 1)
    expected, found = (read_csv(out / 'clips.csv') for out in (single, tmp_path))
    assert [row['name'] for row in found] == [row['name'] for row in expected]
    assert len(found) == VAL_CLIPS
    for row, same in zip(found, expected):
        for name, value in row.items():
            if name in ('name', 'label', 'predicted', 'top_5_classes'):
                assert value == same[name]
            else:
                # The logarithms in the spectral distances magnify rounding.
                relative = 1e-4 if name in ('stft', 'log_mel') else 2e-5
                assert float(value) == pytest.approx(float(same[name]), rel=relative, abs=1e-5), (
                    name
                )
    values, of_one = (json.loads((out / 'table5.json').read_text()) for out in (tmp_path, single))
    assert values['clips'] == of_one['clips'] == VAL_CLIPS
    assert values['intervals']['ssim'] == pytest.approx(of_one['intervals']['ssim'], abs=1e-6)
    [video], [same] = (list(out.glob('*_side_by_side.mp4')) for out in (tmp_path, single))
    assert video.name == same.name and play(video) == play(same)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in single.iterdir()}
