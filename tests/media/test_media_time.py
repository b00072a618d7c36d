"""The reader and time, on files made here: what is on screen and what is heard at an instant."""

import bisect
import fractions

import numpy as np
import pytest
from helpers.flash_files import NTSC, UNEVEN, UNEVEN_BASE, make_flash, seen_and_heard
from helpers.media_files import SIZE, cut_head, frame_times, make_media, read_number

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media.reader import UnreadableMedia, probe, read_window

RATES = (15, 24, NTSC, 30, 50)
SMALL = ClipSpec(frames=8, height=SIZE, width=SIZE)


@pytest.mark.parametrize('sample_rate', [22_050, 44_100, 48_000])
@pytest.mark.parametrize('rate', RATES, ids=str)
def test_flash_and_burst_coincide(tmp_path, rate, sample_rate):
    path = tmp_path / 'flash.mp4'
    expected = make_flash(path, frame_times(rate, 3), sample_rate=sample_rate)
    seen, heard = seen_and_heard(path, expected)
    assert abs(seen - expected) < 0.002
    assert abs(seen - heard) < 0.005


@pytest.mark.parametrize(
    'name, kwargs',
    [
        ('uneven.mp4', {'times': UNEVEN, 'time_base': UNEVEN_BASE}),
        ('uneven.mkv', {'times': UNEVEN, 'time_base': UNEVEN_BASE}),
        ('late_sound.mp4', {'sound_at': 0.3}),
        ('late_sound.mkv', {'sound_at': 0.3}),
        ('late_picture.mp4', {'times': [t + fractions.Fraction(1, 2) for t in frame_times(24, 3)]}),
        ('late_picture.mkv', {'times': [t + fractions.Fraction(1, 2) for t in frame_times(24, 3)]}),
        ('both_late.mp4', {'times': [t + 2 for t in frame_times(24, 3)], 'sound_at': 1.9}),
        ('frames_out_of_order.avi', {'video_codec': 'mpeg4', 'audio_codec': 'pcm_s16le'}),
        ('frames_in_order.avi', {'video_codec': 'msmpeg4', 'audio_codec': 'pcm_s16le'}),
        ('program.mpg', {'video_codec': 'mpeg1video', 'audio_codec': 'mp2'}),
        ('transport.ts', {}),
        ('flash.flv', {'sample_rate': 44_100}),
        ('vp9.webm', {'video_codec': 'libvpx-vp9', 'audio_codec': 'libopus'}),
        ('mp3.mp4', {'audio_codec': 'libmp3lame'}),
    ],
)
def test_flash_and_burst_coincide_in(tmp_path, name, kwargs):
    path = tmp_path / name
    kwargs = {'times': frame_times(25, 3)} | kwargs
    expected = make_flash(path, **kwargs)
    seen, heard = seen_and_heard(path, expected)
    assert abs(seen - expected) < 0.002
    assert abs(seen - heard) < 0.005


def test_an_edit_list_may_begin_between_key_frames(tmp_path):
    path = tmp_path / 'whole.mp4'
    expected = make_flash(path, frame_times(25, 3), key_interval=50)
    seen, heard = seen_and_heard(cut_head(path, tmp_path / 'cut.mp4', 0.52), expected - 0.52)
    assert abs(seen - (expected - 0.52)) < 0.002
    assert abs(seen - heard) < 0.005


def test_late_audio_is_preceded_by_silence(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 48_000)
    path = make_media(
        tmp_path / 'late.mkv',
        frame_times(25, 1),
        sound=sound,
        audio_codec='pcm_s16le',
        sound_at=0.1,
    )
    audio = read_window(path, 0.0, SMALL).audio[:, 0]
    begin = round(0.1 * 48_000)
    assert not audio[:begin].any()
    np.testing.assert_allclose(audio[begin:], sound[: len(audio) - begin] * 32768, atol=1)


@pytest.mark.parametrize(
    'name, times, kwargs',
    [
        ('15.mp4', frame_times(15, 3), {}),
        ('24.mp4', frame_times(24, 3), {'key_interval': 250}),
        ('ntsc.mp4', frame_times(NTSC, 3), {}),
        ('25.mp4', frame_times(25, 3), {'key_interval': 250}),
        ('50.mp4', frame_times(50, 3), {'key_interval': 250}),
        ('ntsc.mkv', frame_times(NTSC, 3), {}),
        ('ntsc.avi', frame_times(NTSC, 3), {'video_codec': 'mpeg4'}),
        ('25.mpg', frame_times(25, 3), {'video_codec': 'mpeg2video'}),
        ('uneven.mp4', UNEVEN, {'time_base': UNEVEN_BASE, 'key_interval': 250}),
        ('uneven.mkv', UNEVEN, {'time_base': UNEVEN_BASE}),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_each_frame_is_the_one_on_screen(tmp_path, name, times, kwargs):
    path = make_media(tmp_path / name, times, **kwargs)
    shown = [round(float(time - times[0]), 3 if name.endswith('mkv') else 9) for time in times]
    for start in (0, 0.4, 0.52, 1.1, 1.7333, 2.3):
        video = read_window(path, start, SMALL).video
        expected = [bisect.bisect_right(shown, start + i / 25 + 6e-4) - 1 for i in range(8)]
        assert [read_number(image) for image in video] == expected, start


@pytest.mark.parametrize('rate', [25, NTSC, 50], ids=str)
def test_windows_end_where_the_video_ends(tmp_path, rate):
    times = frame_times(rate, 2)
    path = make_media(tmp_path / 'clip.mp4', times)
    seconds = probe(path).seconds
    assert seconds == pytest.approx(len(times) / rate, abs=1e-4)
    last = seconds - SMALL.seconds
    for start in (last, last + 0.018):
        assert read_number(read_window(path, start, SMALL).video[-1]) <= len(times) - 1
    for start in (last + 0.022, last + 10):
        with pytest.raises(UnreadableMedia, match='ends before'):
            read_window(path, start, SMALL)


def test_rounded_times_leave_no_cracks_in_the_audio(tmp_path):
    """Matroska stores the times of AAC's pieces of 23.2 ms in whole milliseconds."""
    sound = 0.5 * np.sin(2 * np.pi * 300 * np.arange(2 * 44_100) / 44_100)
    path = make_media(tmp_path / 'tone.mkv', frame_times(25, 2), sound=sound, sample_rate=44_100)
    audio = read_window(path, 0.5, ClipSpec(frames=25, height=8, width=8)).audio[:, 0] / 32768
    assert np.abs(np.diff(audio, 2)).max() < 1.5 * 0.5 * (2 * np.pi * 300 / 48_000) ** 2
