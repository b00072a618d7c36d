"""The reader on real clips: what `clips.csv` says of them, and seeking against a full decode."""

import csv
import re

import numpy as np
import pytest

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media import containers
from perceiver_io.media.reader import UnreadableMedia, probe, read_window, read_windows

SPEC = ClipSpec(frames=6, height=64, width=64)

# What reading a file of odd/ comes to: (seconds, width, height), or the reason against it.
ODD = {
    '-video-with-dash-.mp4': (5.0, 1, 1),
    '76UZQRJq028_181000_191000.mp4': 'damaged',  # a text
    'Mpeg4.mp4': 'no video',  # nor anything else
    'PandaGPT__a.mp4': (6.967, 1920, 1080),
    'bento.mp4': (1.1, 320, 568),
    'carphone_distorted.mp4': (4.004, 193, 144),
    'corrupted.mp4': (5.0, 1280, 720),  # its last two seconds do not decode: tested below
    'gs-16b-2c-44100hz.mp4': 'no video',
    'hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi': (2.767, 320, 240),
    'mmaction2__demo.mp4': (10.0, 427, 256),
    'nasa_13013_rotated.mp4': (0.567, 270, 480),
    'no_duration.webm': (4.938, 1280, 720),
    'part_0.mp4': (1.1, 455, 256),
    'realshort.mp4': (1.199, 320, 240),
    'result.webm': 'empty',
    'sine_stereo_mp2.mpg': (4.0, 128, 128),
    'test1.mp4': (0.701, 660, 480),
    'test_non_zero_start.mp4': (0.4, 199, 112),
    'testsrc2_odd_height_and_width_444.mp4': (1.0, 321, 241),
    'v_SoccerJuggling_g23_c01.avi': (8.008, 320, 240),
    'vid1.mp4': (2.24, 640, 360),
}
BROKEN_FROM = {'corrupted.mp4': 2.5}  # seconds


@pytest.fixture(scope='module')
def rows(shared_clips):
    """The lines of clips.csv whose files have video that can be read, with their paths."""
    with open(shared_clips / 'clips.csv', newline='', encoding='utf-8') as file:
        rows = [
            row | {'path': shared_clips / row['folder'] / row['file']}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if not isinstance(ODD.get(row['file']), str)]


def test_probe_finds_what_the_table_says(rows):
    for row in rows:
        info = probe(row['path'])
        assert info.has_video and info.has_audio == (row['has_audio'] == '1'), row['file']
        # The table counted decoded frames. Two of its files have gaps of a frame.
        assert info.seconds * info.frame_rate == pytest.approx(int(row['frames']), abs=1.2), row
        assert info.frame_rate == pytest.approx(float(row['fps']), abs=0.01), row['file']
        aspect = re.search(r'SAR (\d+)/(\d+)', row['notes'])
        if aspect and 'rotation' not in row['notes']:
            width, height = map(int, row['wh'].split('x'))
            width = round(width * int(aspect[1]) / int(aspect[2]))
            assert (info.width, info.height) == (width, height), row['file']


@pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.slow)])
def test_real_clips_are_read_to_their_end(shared_clips, every):
    for path in sorted((shared_clips / 'real').iterdir())[::every]:
        info = probe(path)
        read = list(read_windows(path, SPEC))
        assert abs(sum(real for _, real in read) - info.seconds * 25) <= 0.52, path.name
        assert all(clip.video.any() for clip, _ in read[2:]), path.name
        assert np.concatenate([clip.audio for clip, _ in read]).std() > 20, path.name


def test_every_odd_file_is_read_or_refused_with_a_reason(shared_clips):
    assert set(ODD) == {path.name for path in (shared_clips / 'odd').iterdir()}
    for name, expected in ODD.items():
        path = shared_clips / 'odd' / name
        if isinstance(expected, str):
            with pytest.raises(UnreadableMedia, match=expected) as caught:
                read_window(path, 0.0, SPEC)
            assert '\n' not in str(caught.value)
        else:
            info = probe(path)
            assert info.seconds == pytest.approx(expected[0], abs=1e-3), name
            assert (info.width, info.height) == expected[1:], name
            assert read_window(path, 0.0, SPEC).video.shape == (6, 64, 64, 3), name
            read_window(path, min(info.seconds, BROKEN_FROM.get(name, 99)) - SPEC.seconds, SPEC)


def test_a_window_is_refused_where_the_file_is_corrupt(shared_clips):
    path = shared_clips / 'odd' / 'corrupted.mp4'
    for start in (2.7, 3.5):
        with pytest.raises(UnreadableMedia, match='damaged'):
            read_window(path, start, SPEC)
    windows = read_windows(path, SPEC)
    for _ in range(11):
        next(windows)
    with pytest.raises(UnreadableMedia):
        list(windows)


def test_the_turned_clip_is_upright(shared_clips):
    spec = ClipSpec(frames=1, height=480, width=270, audio=False)
    video = read_window(shared_clips / 'odd' / 'nasa_13013_rotated.mp4', 0.1, spec).video[0]
    red = video[..., 0].astype(int) - video[..., 2]
    assert np.unravel_index(red.argmax(), red.shape)[0] > 280  # a red crane stands on the floor


@pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.slow)])
def test_seeking_gives_what_a_full_decode_gives(rows, monkeypatch, every):
    for row in rows[::every]:
        seconds = min(probe(row['path']).seconds, BROKEN_FROM.get(row['file'], 99))
        for part in (0.03, 0.41, 1.0):
            start = part * (seconds - SPEC.seconds)
            sought = read_window(row['path'], start, SPEC)
            with monkeypatch.context() as patch:
                patch.setattr(containers, '_EXACT_SEEKS', ())
                decoded = read_window(row['path'], start, SPEC)
            np.testing.assert_array_equal(sought.video, decoded.video, err_msg=row['file'])
            assert sound_error(sought.audio, decoded.audio) < 0.15, (row['file'], start)


def sound_error(one, other, shift=50):
    """The difference of two sounds relative to their loudness, at the best shift of about 1 ms.

    AAC fills in noise that depends on what was decoded before, and a seek meets times that the
    file rounds to milliseconds.
    """
    one, other = one[:, 0].astype(float), other[:, 0].astype(float)
    middle = other[shift:-shift]
    errors = [np.abs(one[i : i + len(middle)] - middle).mean() for i in range(2 * shift + 1)]
    return min(errors) / (np.abs(middle).mean() + 10)
