"""The file that lets an interrupted evaluation go on."""

import math

import numpy as np
from helpers.evaluation_batches import make_pass

from perceiver_io.evaluation.evaluate import Finished
from perceiver_io.evaluation.rows import ClipRow
from perceiver_io.evaluation.saved_progress import SavedProgress, fingerprint

ROWS = [
    ClipRow(0, 2, {'video_psnr': 0.1 + 0.2, 'audio_psnr': None}, (2, 0), 1 / 3),
    ClipRow(4, -1, {'video_psnr': -math.inf, 'audio_psnr': 1e-300}),
]


def test_what_is_read_is_what_was_added(tmp_path):
    path = tmp_path / 'unfinished.jsonl'
    progress = SavedProgress(path, 'key')
    assert progress.read() == Finished([], [])
    progress.add(Finished(ROWS[:1], [3]))
    progress.add(Finished(ROWS[1:]))
    assert SavedProgress(path, 'key').read() == Finished(ROWS, [3])
    progress.remove()
    assert not path.exists()


def test_a_line_that_was_cut_off_is_left_out_and_lines_can_follow(tmp_path):
    path = tmp_path / 'unfinished.jsonl'
    SavedProgress(path, 'key').read()
    SavedProgress(path, 'key').add(Finished(ROWS))
    path.write_text(path.read_text()[:-7])
    progress = SavedProgress(path, 'key')
    assert progress.read() == Finished(ROWS[:1], [])
    progress.add(Finished(ROWS[1:]))
    assert progress.read() == Finished(ROWS, [])


def test_another_evaluations_clips_are_not_taken(tmp_path):
    path = tmp_path / 'unfinished.jsonl'
    SavedProgress(path, 'key').read()
    SavedProgress(path, 'key').add(Finished(ROWS))
    assert SavedProgress(path, 'other').read() == Finished([], [])
    assert SavedProgress(path, 'key').read() == Finished([], [])


def test_the_fingerprint_depends_on_all_that_decides_the_results():
    metrics = make_pass().metrics
    arguments = {
        'params': {'w': np.zeros(3)},
        'metrics': metrics,
        'names': ['a', 'b'],
        'settings': {'batch_size': 2},
    }
    others = {
        'params': {'w': np.array([0, 0, 1e-30])},
        'metrics': metrics[1:],
        'names': ['a', 'c'],
        'settings': {'batch_size': 3},
    }
    keys = {fingerprint(**arguments | {name: other}) for name, other in others.items()}
    assert len(keys | {fingerprint(**arguments)}) == 5
    assert fingerprint(**arguments) == fingerprint(**arguments)
