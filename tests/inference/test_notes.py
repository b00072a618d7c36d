"""What is written below the frames of a side-by-side video."""

import numpy as np
import pytest

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.inference import reconstruction
from perceiver_io.media.side_by_side import SideBySide

SPEC = ClipSpec(frames=2, height=16, width=16, frame_rate=5, sample_rate=8000)


def window(errors, scores):
    """Two frames of video with an error each, in levels of 255, and audio with an error of 0.1."""
    frames = np.zeros((2, 16, 16, 3), np.uint8)
    wrong = frames + np.array(errors, np.uint8)[:, None, None, None]
    sound = np.full((3200, 1), 6554, np.int16)
    return reconstruction.window_of(
        Clip(frames, sound), Clip(wrong, sound // 2), np.array(scores), SPEC
    )


@pytest.fixture
def drawn(monkeypatch):
    """The notes of every window that is drawn."""
    notes, draw = [], SideBySide.draw
    monkeypatch.setattr(
        SideBySide, 'draw', lambda self, *args: notes.append(args[-1]) or draw(self, *args)
    )
    return notes


def test_the_numbers_of_the_last_frame_are_those_of_the_summary(tmp_path, drawn):
    summary = reconstruction.write_windows(
        [window((51, 51), (0.9, 0.1, 0.0)), window((51, 102), (0.1, 0.4, 0.5))],
        SPEC,
        classes=('cat', 'dog'),
        side_by_side=tmp_path / 'x.mp4',
    )
    assert summary.video_psnr == pytest.approx(-10 * np.log10((3 * 0.04 + 0.16) / 4), abs=1e-4)
    assert summary.audio_psnr == pytest.approx(20, abs=0.01)
    audio = 'audio, clip so far 20.0 dB'
    assert drawn == [
        [('predicted cat 90%', 'frame 14.0, clip so far 14.0 dB', audio)] * 2,
        [
            ('predicted cat 50%', 'frame 14.0, clip so far 11.5 dB', audio),
            ('predicted cat 50%', 'frame 8.0, clip so far 11.5 dB', audio),
        ],
    ]


def test_a_model_without_label_and_audio_has_no_such_notes(tmp_path, drawn):
    clip = Clip(np.zeros((2, 16, 16, 3), np.uint8), np.zeros((3200, 1), np.int16))
    one = reconstruction.window_of(clip, clip, np.array([0.0, 1.0]), SPEC)
    two = one._replace(scores=None)
    reconstruction.write_windows([one], SPEC, classes=('cat',), side_by_side=tmp_path / 'x.mp4')
    reconstruction.write_windows([two], SPEC, side_by_side=tmp_path / 'x.mp4')
    perfect = 'frame 100.0, clip so far 100.0 dB'
    assert drawn == [[('predicted class 1 100%', perfect, '')] * 2, [('', perfect, '')] * 2]
