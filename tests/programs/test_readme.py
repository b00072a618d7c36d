"""The README's own lines: what they run must be there, and must run."""

import pathlib
import re
import shlex
import subprocess
import sys

from test_train import TINY

ROOT = pathlib.Path(__file__).resolve().parents[2]
README = (ROOT / 'README.md').read_text()


def line_under(heading: str) -> str:
    block = re.search(rf'^## {heading}\n.*?^```\w*\n(.*?)^```', README, re.M | re.S).group(1)
    assert block.count('\n') == 1, f'{heading} is more than one line'
    return block.strip()


def test_run_it(tmp_path):
    """Its programs, one after the other, with the demo shrunk still further."""
    steps = line_under('Run it').split(' && ')
    assert steps[0] == 'python3 -m venv .venv'
    assert steps[1] == '.venv/bin/pip install -q -r requirements.txt'
    programs = [shlex.split(step) for step in steps[2:]]
    assert [program[:2] for program in programs] == [
        ['.venv/bin/python', 'train.py'],
        ['.venv/bin/python', 'eval.py'],
    ]
    programs[0] += [f'--config.{name}={value}' for name, value in TINY.items()]
    programs[0] += [f'--config.data.cache={tmp_path}/cache', '--config.training.steps=3']
    for program in programs:
        arguments = [argument.replace('runs/demo', str(tmp_path / 'run')) for argument in program]
        done = subprocess.run(
            [sys.executable, *arguments[1:]], cwd=ROOT, text=True, capture_output=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert 'mean colour' in done.stdout and '88.0x' in done.stdout
    last = pathlib.Path(done.stdout.split()[-1])
    assert last.name.endswith('_side_by_side.mp4') and last.stat().st_size > 1000


def test_test_it():
    assert line_under('Test it').endswith('-m pytest -q -n 2 --dist loadfile')
    assert '-r requirements-dev.txt' in line_under('Test it')


def test_paths_in_the_layout_exist():
    table = README.split('## Layout')[1].split('##')[0]
    paths = re.findall(r'`([\w/.]+)`', table)
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / 'perceiver_io' / path).exists(), path
