"""Side by side: who is left, who is right, in video and in audio."""

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.media import side_by_side


def test_left_is_the_original_and_right_the_reconstruction():
    spec = ClipSpec(frames=2, height=30, width=20, sample_rate=1000)
    before = Clip(np.full((2, 30, 20, 3), 200, np.uint8), np.full((80, 1), 7, np.int16))
    after = Clip(np.full((2, 30, 20, 3), 90, np.uint8), np.full((80, 1), -9, np.int16))
    drawing = side_by_side.SideBySide(spec)
    drawn = drawing.draw(before, after)
    assert drawn.video.shape == (2, drawing.height, drawing.width, 3) == (2, 292, 488, 3)
    panels = drawn.video[:, 26:-26]
    assert (panels[:, :, :160] == 200).all() and (panels[:, :, 164:324] == 90).all()
    assert drawn.video[0, :26, :160].max() > 150  # a caption
    assert drawn.video[:, -26:].max() == 24  # no notes
    assert (drawn.audio == [7, -9]).all() and drawn.audio.shape == (80, 2)


def test_the_difference_is_bright_where_it_is_large_and_notes_are_below():
    spec = ClipSpec(frames=2, height=224, width=224, audio=False)
    before = np.full((2, 224, 224, 3), 100, np.uint8)
    after = before.copy()
    after[:, :112, :, 0] -= 60  # a mean of 20 over the channels
    after[:, :, :20] += 80
    notes = [('', 'frame 21.3', ''), ('', '', 'second')]
    drawn = side_by_side.SideBySide(spec).draw(Clip(before), Clip(after), notes)
    heat = drawn.video[0, 26:-26, 456:].astype(int).sum(-1)
    assert (heat[112:, 20:] < 10).all()  # no difference is black
    assert (heat[:112, 20:] > 150).all() and (heat[112:, :20] > 2 * heat[0, 100]).all()
    below = drawn.video[:, -26:].max(axis=(1, 3))
    written = [[below[t, left : left + 224].max() > 150 for left in (0, 228, 456)] for t in (0, 1)]
    assert written == [[False, True, False], [False, False, True]]


def test_the_waveform_is_high_where_it_is_loud_and_the_line_moves():
    spec = ClipSpec(frames=4, frame_rate=4, sample_rate=4000, video=False)
    audio = np.zeros((4000, 1), np.int16)
    audio[2000:, 0] = np.tile([20000, -20000], 1000)
    drawn = side_by_side.SideBySide(spec).draw(Clip(audio=audio), Clip(audio=np.zeros_like(audio)))
    ink = (drawn.video[0, 26:-26] == 220).all(-1).sum(0)
    for left in (0, 648):  # the original, and its difference from silence
        assert ink[left : left + 159].max() == 2 and ink[left + 161 : left + 319].min() > 100
    assert ink[330:640].max() == 2
    lines = [np.flatnonzero((frame[30] == (255, 120, 60)).all(-1))[0] for frame in drawn.video]
    assert lines == [40, 120, 200, 280]


def test_a_strip_takes_floats_and_integers():
    original = np.repeat(np.arange(16, dtype=np.uint8)[:, None, None, None], 48, 1)
    original = np.broadcast_to(original, (16, 48, 64, 3))
    image = side_by_side.strip(original, original / 255.0 + 2, frames=4)
    assert image.shape == (2 * 96 + 4, 4 * 128, 3) and image.dtype == np.uint8
    assert image[:96, ::128, 0].tolist() == [[0, 5, 10, 15]] * 96
    assert (image[100:] == 255).all()
