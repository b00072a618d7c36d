"""Files to arrays and arrays to files, as the documentation of `inference.arrays` shows them."""

import numpy as np
import pytest
from helpers.runs import RATE, make_run, play

import perceiver_io
from perceiver_io.media import reader, writer


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    return perceiver_io.load_checkpoint(make_run(tmp_path_factory.mktemp('arrays') / 'run'))


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    """2.4 seconds of video and of a tone: three windows of four frames at 5 frames/s."""
    path = tmp_path_factory.mktemp('clip') / 'clip.mp4'
    video = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 3), np.uint8)
    audio = (8000 * np.sin(np.arange(19_200) / 9)).astype(np.int16)[:, None]
    writer.write_media(path, video, audio, sample_rate=8000)
    return path


def test_there_and_back(checkpoint, clip, tmp_path):
    model, spec = perceiver_io.Autoencoder(checkpoint.config), checkpoint.clip_spec
    clips = perceiver_io.read_clips(clip, spec)
    expected = [window for window, _ in reader.read_windows(clip, spec)]
    assert clips.video.shape == (3, 4, 16, 16, 3) and clips.video.dtype == np.float32
    assert clips.audio.shape == (3, 6400, 1) and clips.audio.dtype == np.float32
    np.testing.assert_allclose(clips.video[1] * 255, expected[1].video, atol=1e-4)
    np.testing.assert_allclose(clips.audio[1] * 32768, expected[1].audio, atol=1e-3)
    assert perceiver_io.read_clips(clip, spec, windows=2).video.shape[0] == 2
    output = model.reconstruct(checkpoint.params, video=clips.video, audio=clips.audio)
    perceiver_io.write_clips(tmp_path / 'out.mp4', output, spec)
    played = play(tmp_path / 'out.mp4')
    assert (played.frames, played.height, played.width) == (12, 16, 16)
    assert played.seconds == pytest.approx(12 / RATE, abs=0.15)
    perceiver_io.write_clips(tmp_path / 'same.mp4', clips, spec)
    again = perceiver_io.read_clips(tmp_path / 'same.mp4', spec)
    assert abs(again.video - clips.video).mean() < 0.1


def test_what_is_out_of_range_is_clipped(tmp_path):
    spec = perceiver_io.ClipSpec(frames=2, height=16, width=16, frame_rate=5, sample_rate=8000)
    video = np.full((1, 2, 16, 16, 3), 1.5, np.float32)
    audio = np.full((1, spec.samples, 1), -1.5, np.float32)
    perceiver_io.write_clips(tmp_path / 'x.mp4', perceiver_io.Clip(video, audio), spec)
    clips = perceiver_io.read_clips(tmp_path / 'x.mp4', spec)
    assert clips.video.min() > 0.97 and np.median(clips.audio) < -0.8


def test_wrong_arguments(clip, tmp_path):
    spec = perceiver_io.ClipSpec(frames=2, height=16, width=16)
    with pytest.raises(ValueError, match='windows=0 must be at least 1'):
        perceiver_io.read_clips(clip, spec, windows=0)
    with pytest.raises(ValueError, match='there is no such file'):
        perceiver_io.read_clips(tmp_path / 'gone.mp4', spec)
    with pytest.raises(ValueError, match='neither video nor audio'):
        perceiver_io.write_clips(tmp_path / 'x.mp4', perceiver_io.Clip(), spec)
    with pytest.raises(ValueError, match='must be floats or uint8, not int64'):
        perceiver_io.write_clips(
            tmp_path / 'x.mp4', perceiver_io.Clip(np.zeros((1, 2, 16, 16, 3), np.int64)), spec
        )
