"""The writer, read back with the reader."""

import os
import pathlib
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
from helpers.media_files import burst, burst_centre

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media.reader import probe, read_window, read_windows
from perceiver_io.media.writer import MediaWriter, write_media

ROOT = pathlib.Path(__file__).resolve().parents[2]


def smooth_video(frames=50, height=48, width=64):
    """uint8 [t, h, w, 3]: slow waves of all colours."""
    t, y, x = np.meshgrid(*(np.arange(n) for n in (frames, height, width)), indexing='ij')
    waves = [np.sin(0.05 * x + 0.02 * t), np.cos(0.06 * y - 0.03 * t), np.sin(0.04 * (x + y))]
    return (127.5 + 110 * np.stack(waves, -1)).astype(np.uint8)


def tone(seconds=2.0, sample_rate=44_100, channels=1):
    """int16 [s, channels]: 220 Hz."""
    time = np.arange(round(seconds * sample_rate))[:, np.newaxis] / sample_rate
    return np.repeat(9000 * np.sin(2 * np.pi * 220 * time), channels, 1).astype(np.int16)


@pytest.mark.parametrize('channels, sample_rate', [(1, 48_000), (2, 44_100), (1, 1600)])
def test_what_is_written_is_read(tmp_path, channels, sample_rate):
    video, audio = smooth_video(), tone(2.0, sample_rate, channels)
    write_media(tmp_path / 'clip.mp4', video, audio, frame_rate=25, sample_rate=sample_rate)
    info = probe(tmp_path / 'clip.mp4')
    assert (info.width, info.height, info.has_audio) == (64, 48, True)
    assert (info.seconds, info.frame_rate) == (2.0, 25.0)
    clip = read_window(tmp_path / 'clip.mp4', 0.0, ClipSpec(frames=50, height=48, width=64))
    error = clip.video.astype(float) - video
    assert 10 * np.log10(255**2 / np.square(error).mean()) > 38
    assert np.abs(error.mean((0, 1, 2))).max() < 2  # no colour is shifted
    expected = tone(2.0, 48_000).astype(float)
    quiet = np.square(clip.audio - expected)[2000:-2000].mean()
    assert quiet < 0.001 * np.square(expected).mean()


@pytest.mark.parametrize('frame_rate, sample_rate', [(25, 48_000), (30, 44_100), (15, 22_050)])
def test_video_and_audio_written_in_pieces_stay_together(tmp_path, frame_rate, sample_rate):
    flash = 2 * frame_rate
    video = np.full((3 * frame_rate, 32, 32, 3), 20, np.uint8)
    video[flash:] = 235
    sound = burst(2.0, sample_rate, 3 * sample_rate)
    audio = np.rint(sound * 32767).astype(np.int16)[:, np.newaxis]
    with MediaWriter(
        tmp_path / 'clip.mp4', width=32, height=32, frame_rate=frame_rate, sample_rate=sample_rate
    ) as writer:
        for piece in range(15):
            writer.write(np.array_split(video, 15)[piece], np.array_split(audio, 15)[piece])
    spec = ClipSpec(frames=1, height=8, width=8)
    before, after = (
        read_window(tmp_path / 'clip.mp4', 2.0 + offset, spec).video.mean()
        for offset in (-0.002, 0.0)
    )
    assert before < 60 < 200 < after
    clip = read_window(tmp_path / 'clip.mp4', 1.9, ClipSpec(frames=5, height=8, width=8))
    assert abs(burst_centre(clip.audio[:, 0]) - 0.1) < 0.003


def test_odd_sizes_gain_a_copy_of_their_edge(tmp_path):
    video = smooth_video(10, 49, 65)
    write_media(tmp_path / 'odd.mp4', video, None)
    info = probe(tmp_path / 'odd.mp4')
    assert (info.width, info.height, info.has_audio) == (66, 50, False)
    spec = ClipSpec(frames=10, height=50, width=66, audio=False)
    shown = read_window(tmp_path / 'odd.mp4', 0.0, spec).video.astype(float)
    padded = np.pad(video, ((0, 0), (0, 1), (0, 1), (0, 0)), mode='edge')
    assert 10 * np.log10(255**2 / np.square(shown - padded).mean()) > 36


def test_files_without_video(tmp_path):
    write_media(tmp_path / 'sound.mp4', None, tone(), sample_rate=44_100)
    assert probe(tmp_path / 'sound.mp4').has_video is False
    spec = ClipSpec(video=False)
    assert sum(real for _, real in read_windows(tmp_path / 'sound.mp4', spec)) in (50, 51)


def test_the_stored_file_plays_everywhere(tmp_path):
    write_media(tmp_path / 'clip.mp4', smooth_video(), tone(channels=2), sample_rate=44_100)
    with av.open(str(tmp_path / 'clip.mp4')) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, video.pix_fmt) == ('h264', 'yuv420p')
        assert (audio.codec.name, audio.rate, audio.channels) == ('aac', 44_100, 2)
        keys = [
            packet.pts * packet.time_base
            for packet in container.demux(video)
            if packet.is_keyframe and packet.size
        ]
    assert keys == [0, 1]


def test_an_error_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match='enough'):
        with MediaWriter(tmp_path / 'clip.mp4', width=64, height=48) as writer:
            writer.write(smooth_video())
            raise RuntimeError('enough')
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_the_target_as_it_was(tmp_path):
    target = tmp_path / 'clip.mp4'
    target.write_bytes(b'before')
    program = (
        'import sys, numpy as np\n'
        'from perceiver_io.media.writer import MediaWriter\n'
        'with MediaWriter(sys.argv[1], width=64, height=64) as writer:\n'
        '    while True:\n'
        '        writer.write(np.random.randint(0, 255, (25, 64, 64, 3), np.uint8))\n'
        '        print(flush=True)\n'
    )
    with subprocess.Popen(
        [sys.executable, '-c', program, str(target)],
        stdout=subprocess.PIPE,
        env=os.environ | {'PYTHONPATH': str(ROOT)},
    ) as process:
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert target.read_bytes() == b'before'
    assert [path.name for path in tmp_path.glob('*.mp4')] == ['clip.mp4']
    write_media(target, smooth_video(10), None)
    assert probe(target).seconds == pytest.approx(0.4)


@pytest.mark.parametrize(
    'settings, video, audio, message',
    [
        ({'width': 64}, None, None, 'must both be set'),
        ({}, None, None, 'needs video or audio'),
        ({'sample_rate': 48_000, 'channels': 3}, None, None, 'channels=3 must be 1 or 2'),
        ({'width': 64, 'height': 48}, smooth_video(2).astype(float), None, 'video must be uint8'),
        ({'width': 48, 'height': 64}, smooth_video(2), None, r'\[\*, 64, 48, 3\]'),
        ({'width': 64, 'height': 48}, None, tone(), 'without audio'),
        (
            {'sample_rate': 48_000},
            None,
            tone(channels=2),
            r'audio must be int16 with shape \[\*, 1\]',
        ),
        ({'sample_rate': 48_000}, smooth_video(2), None, 'without video'),
    ],
)
def test_bad_input_is_refused(tmp_path, settings, video, audio, message):
    with pytest.raises(ValueError, match=message):
        with MediaWriter(tmp_path / 'clip.mp4', **settings) as writer:
            writer.write(video, audio)
    assert not list(tmp_path.iterdir())


def test_bad_places_and_missing_rates_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_media(tmp_path / 'absent' / 'clip.mp4', smooth_video(2), None)
    with pytest.raises(ValueError, match='sample_rate'):
        write_media(tmp_path / 'clip.mp4', None, tone())
