"""Prepares thousands of clips, for minutes: `pytest -m slow tests/data/test_prepare_full.py`.

2,000 clips of 40 classes in each layout, an eighth of them damaged, are prepared by the program;
one of the layouts is prepared again by a run that is killed several times at random.
"""

import pathlib
import random
import shutil
import signal
import subprocess
import time

import pytest
from helpers import kinetics_trees
from helpers.prepare_runs import ROOT, command, examples, rejects

from perceiver_io.core.kinetics700 import CLASSES

pytestmark = pytest.mark.slow
KILLS = 8


def prepared(source: pathlib.Path, data_dir: pathlib.Path) -> pathlib.Path:
    run = command(source, data_dir, '--workers=2', '--missing_audio=skip')
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout)
    return data_dir / 'kinetics700_2020' / 'transcoded' / '1.0.0'


def test_two_thousand_clips_in_every_tree_and_killed(tmp_path):
    contents = kinetics_trees.make_contents(tmp_path / 'contents')
    planted = kinetics_trees.plan(contents, 2000, 250)
    wrong = sorted((clip.split, clip.name, clip.reason) for clip in planted if clip.reason)
    assert len({clip.class_name for clip in planted if not clip.reason}) >= 40
    assert len(wrong) >= len(planted) / 10
    first = None
    for form in kinetics_trees.FORMS:
        source = kinetics_trees.build(form, tmp_path / form, planted, contents)
        folder = prepared(source, tmp_path / 'data' / form)
        assert rejects(folder) == wrong, form
        found = examples(folder)
        assert sorted(
            (split, example['name'].decode(), CLASSES[example['label']])
            for split, part in found.items()
            for example in part
        ) == sorted((clip.split, clip.name, clip.class_name) for clip in planted if not clip.reason)
        first = first or found
        assert found == first, form

    whole = time.monotonic()
    prepared(tmp_path / 'cvdf', tmp_path / 'data' / 'again')
    whole = time.monotonic() - whole
    rng = random.Random(time.time_ns())
    killed = 0
    for _ in range(KILLS):
        process = subprocess.Popen(
            command(
                tmp_path / 'cvdf',
                tmp_path / 'data' / 'killed',
                '--workers=2',
                '--missing_audio=skip',
            ),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            process.wait(rng.uniform(0, whole / 3))
            break  # it was quicker
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
    print(f'killed {killed} times; uninterrupted it takes {whole:.0f} s')
    assert killed >= 5
    folder = prepared(tmp_path / 'cvdf', tmp_path / 'data' / 'killed')
    assert examples(folder) == first and rejects(folder) == wrong
    shutil.rmtree(tmp_path / 'data')
