"""The rule for silence, in reconstruction as in evaluation."""

import numpy as np
import pytest

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.inference.reconstruction import Window, write_windows

SPEC = ClipSpec(frames=2, height=4, width=4, frame_rate=25, sample_rate=100)


@pytest.mark.parametrize('sample, expected', [(0, None), (1, 20.0)])
def test_digital_silence_has_no_audio_psnr(sample, expected):
    """Silent in the first window, and but for one sample in the second."""
    video, silence = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((8, 1), np.int16)
    audio = silence.copy()
    audio[5] = sample
    errors = np.full(2, 0.01)
    windows = [
        Window(Clip(video, heard), Clip(video, silence), errors, errors, None)
        for heard in (silence, audio)
    ]
    summary = write_windows(windows, SPEC)
    assert summary.video_psnr == pytest.approx(20)
    assert summary.audio_psnr == (None if expected is None else pytest.approx(expected))
