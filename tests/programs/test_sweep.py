"""`perceiver-io sweep`: points are run, resumed and left out, and compared. Programs are played."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from helpers.runs import python, read_csv

from perceiver_io import cli
from perceiver_io.sweeps import points, programs
from perceiver_io.sweeps.programs import PointFailed, SweepStopped

# Plays `python -m perceiver_io.train` and `eval`. The training of 16 latents fails, unless the
# file `mended` is there; the file `slow` makes a training wait for SIGTERM.
PLAYER = """#!{python} -S
import json, os, pathlib, re, signal, sys, time
here = pathlib.Path({here!r})
flags = dict(argument[2:].partition('=')[::2] for argument in sys.argv[3:])
with open(here / 'calls', 'a') as calls:
    print(sys.argv[2], *sys.argv[3:], file=calls)
if sys.argv[2] == 'perceiver_io.train':
    latents = int(re.search("'latents': (\\\\d+)", open(flags['config']).read())[1])
    if latents == 16 and not (here / 'mended').exists():
        sys.exit('error: no memory')
    if (here / 'slow').exists():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        (here / 'waiting').touch()
        time.sleep(30)
    run = pathlib.Path(flags['workdir'])
    run.mkdir(exist_ok=True)
    (run / 'latents').write_text(str(latents))
else:
    latents = int((pathlib.Path(flags['checkpoint']) / 'latents').read_text())
    out = pathlib.Path(flags['output'])
    out.mkdir(exist_ok=True)
    row = dict(compression=512 / latents, raw_compression=256 / latents, step=200, clips=60,
               video_psnr=15 + latents / 32, audio_psnr=20.0, intervals={{'video_psnr': [14, 20]}})
    (out / 'table5.json').write_text(json.dumps(row))
"""


@pytest.fixture
def player(tmp_path, monkeypatch):
    path = tmp_path / 'player'
    path.write_text(PLAYER.format(python=sys.executable, here=str(tmp_path)))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(programs.sys, 'executable', str(path))
    return tmp_path


def sweep(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', ['perceiver-io', 'sweep', *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


def calls(player):
    lines = (player / 'calls').read_text().splitlines()
    (player / 'calls').unlink()
    return [line.split()[0].rpartition('.')[2] for line in lines]


def test_a_sweep_goes_on_after_a_failure_and_ends_in_a_comparison(player, monkeypatch, capfd):
    out = player / 'out'
    assert sweep(monkeypatch, 'bottleneck', f'--output={out}') == 1
    assert calls(player) == ['train', 'eval'] * 3 + ['train'] + ['train', 'eval']
    said = capfd.readouterr()
    assert 'point 3 (latents=16): no memory (see' in said.err
    assert '| latents=8 | 64.0x |' in said.out and '4 of 5 points are finished' in said.out

    (player / 'mended').touch()
    assert sweep(monkeypatch, 'sweeps/bottleneck', f'--output={out}', '--index=3') == 0
    assert calls(player) == ['train', 'eval']
    assert sweep(monkeypatch, 'bottleneck', f'--output={out}') == 0
    assert not (player / 'calls').exists()  # all are finished
    assert '5 of 5' in capfd.readouterr().out

    rows = read_csv(out / 'sweep.csv')
    assert [row['model.latents'] for row in rows] == ['128', '64', '32', '16', '8']
    assert [row['video_psnr'] for row in rows] == ['19', '17', '16', '15.5', '15.25']
    assert json.loads((out / 'sweep.json').read_text())['results'][3]['raw_compression'] == 16
    svg = (out / 'sweep.svg').read_text()
    assert svg.count('<circle') == 6 and 'latents=128' in svg  # five, and one in the legend
    page = (out / 'index.html').read_text()
    assert all(f'<h2 id="point{index}">' in page for index in range(5))
    assert '14.00 to 20.00' in page

    # Another config is another training.
    sweep(monkeypatch, 'bottleneck', f'--output={out}', '--index=0', '--set=training.seed=1')
    assert calls(player) == ['train', 'eval']


def test_a_signal_reaches_the_program_and_the_point_is_not_finished(player):
    (player / 'slow').touch()
    folder = player / 'point'
    folder.mkdir()

    def interrupt():
        while not (player / 'waiting').exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=interrupt).start()
    begin = time.monotonic()
    with pytest.raises(SweepStopped, match='SIGTERM'):
        programs.run_point(folder, "'latents': 8", 200, [])
    assert time.monotonic() - begin < 20
    assert calls(player) == ['train'] and not programs.is_finished(folder, "'latents': 8")
    (player / 'slow').unlink()
    with pytest.raises(PointFailed, match='step 200 of 300'):
        programs.run_point(folder, "'latents': 8", 300, [])
    programs.run_point(folder, "'latents': 8", 200, [])
    assert programs.is_finished(folder, "'latents': 8")
    assert not programs.is_finished(folder, "'latents': 9")


@pytest.mark.parametrize('name', points.shipped_sweeps())
def test_the_configs_of_included_sweeps_are_complete(name):
    from perceiver_io.sweep import complete_configs

    configs = complete_configs(points.read_sweep(name, {}))
    assert len({config['model']['latents'] for config in configs}) >= 3


@pytest.mark.slow
def test_a_sweep_of_two_points(tmp_path):
    """Two points of the demo, a few steps each, with real programs."""
    path = tmp_path / 'two.py'
    path.write_text(
        'def get_sweep():\n'
        "    return dict(base='demo', grid={'model.latents': (8, 4)}, set={\n"
        "        'training.steps': 2, 'initialization.video_grid': None, 'model.self_attends': 1,\n"
        f"        'data.render_train': 40, 'data.render_val': 20, 'data.cache': {str(tmp_path)!r}\n"
        '    })\n'
    )
    command = ('-m', 'perceiver_io.sweep', path, f'--output={tmp_path / "out"}')
    done: subprocess.CompletedProcess = python(*command, '--noreport', timeout=300)
    assert done.returncode == 0, done.stderr
    rows = read_csv(tmp_path / 'out' / 'sweep.csv')
    assert [row['model.latents'] for row in rows] == ['8', '4']
    assert all(float(row['video_psnr']) > 5 and row['step'] == '2' for row in rows)
    again = python(*command, '--noreport', timeout=60)
    assert again.returncode == 0 and again.stderr.count('is finished already') == 2
