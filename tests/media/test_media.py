"""The reader, on files made here: what a clip is made of, and what is refused."""

import contextlib
import fractions
import gc
import pathlib
import socket

import av
import numpy as np
import pytest
from helpers.media_files import SIZE, burst, frame_times, make_media, read_number

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media import video as video_module
from perceiver_io.media.audio import AudioReader
from perceiver_io.media.containers import open_media
from perceiver_io.media.reader import UnreadableMedia, probe, read_window, read_windows
from perceiver_io.media.video import VideoReader
from perceiver_io.media.writer import write_media

SMALL = ClipSpec(frames=8, height=SIZE, width=SIZE)


def test_consecutive_windows_are_the_same_windows(tmp_path):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 48_000))
    path = make_media(
        tmp_path / 'clip.mp4',
        frame_times(30, 1),
        sound=sound,
        audio_codec='alac',
        sample_rate=44_100,
    )
    windows = list(read_windows(path, SMALL))
    assert [real for _, real in windows] == [8, 8, 8, 1]
    for index, (clip, _) in enumerate(windows[:3]):
        alone = read_window(path, index * SMALL.seconds, SMALL)
        np.testing.assert_array_equal(clip.video, alone.video)
        np.testing.assert_array_equal(clip.audio, alone.audio)
    last = windows[-1][0]
    assert (last.video == last.video[0]).all()
    assert last.audio[: SMALL.samples_per_frame].any()
    assert not last.audio[SMALL.samples_per_frame :].any()
    assert [real for _, real in read_windows(path, SMALL, on_short='drop')] == [8, 8, 8]
    with pytest.raises(ValueError, match="must be 'pad' or 'drop'"):
        next(read_windows(path, SMALL, on_short='crop'))


def test_little_is_held_in_memory_however_long_the_file(tmp_path):
    times = frame_times(25, 4)
    path = make_media(
        tmp_path / 'long.avi',
        times,
        video_codec='mpeg4',
        sound=np.zeros(4 * 48_000),
        audio_codec='pcm_s16le',
    )
    with open_media(path) as one, open_media(path) as other:
        picture, sound = VideoReader(one, 2.0), AudioReader(other, 2.0)
        for time in (2.0, 2.7, 3.4):
            picture.windows([time], SMALL)
            sound.window(time, SMALL)
            assert len(picture._queue) <= 2
            assert sum(len(piece.samples) for piece in sound._queue) < 36_000


def quadrants(height, width):
    """Red, green / blue, white."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = 255, 0, 0
    image[: height // 2, width // 2 :] = 0, 255, 0
    image[height // 2 :, : width // 2] = 0, 0, 255
    image[height // 2 :, width // 2 :] = 255, 255, 255
    return image


def read_first(path, height, width):
    spec = ClipSpec(frames=1, height=height, width=width, audio=False)
    return read_window(path, 0.0, spec).video[0]


@pytest.mark.parametrize('rotation', [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    image = quadrants(64, 96)
    path = make_media(
        tmp_path / 'turned.mp4', frame_times(25, 0.2), images=[image] * 5, rotation=rotation
    )
    info = probe(path)
    assert (info.width, info.height) == ((96, 64) if rotation == 180 else (64, 96))
    expected = np.rot90(image, rotation // 90)
    shown = read_first(path, *expected.shape[:2])
    assert np.abs(shown.astype(int) - expected).mean() < 10


@pytest.mark.parametrize(
    'aspect, displayed, size, outside',
    [
        ('2', (128, 64), (32, 32), np.s_[:, :15]),
        ('1/2', (32, 64), (32, 32), np.s_[:15]),
        ('1', (64, 64), (16, 32), np.s_[:15]),
        ('1', (64, 64), (32, 16), np.s_[:, 49:]),
    ],
)
def test_the_centre_of_the_displayed_frame_is_cut_before_it_is_resized(
    tmp_path, aspect, displayed, size, outside
):
    image = np.full((64, 64, 3), 255, np.uint8)
    image[outside] = 0
    path = make_media(
        tmp_path / 'wide.mp4',
        frame_times(25, 0.2),
        images=[image] * 5,
        pixel_aspect=fractions.Fraction(aspect),
    )
    info = probe(path)
    assert (info.width, info.height) == displayed
    assert read_first(path, *size).min() > 225  # none of what was outside bled in


def make_stripes(path, **kwargs):
    """Every fourth row is white: 64 on average, if no row is skipped."""
    rows = (np.arange(64) % 4 == 0)[:, np.newaxis, np.newaxis] * 255
    image = np.broadcast_to(rows, (64, 64, 3)).astype(np.uint8)
    return make_media(path, frame_times(25, 0.2), images=[image] * 5, **kwargs)


def test_shrinking_averages_and_growing_does_not_step(tmp_path):
    path = make_stripes(tmp_path / 'stripes.mp4')
    assert np.abs(read_first(path, 16, 16).astype(int) - 64).max() < 16
    assert np.abs(np.diff(read_first(path, 256, 256).astype(int), axis=0)).max() < 100


@pytest.mark.parametrize('size', [20, 33, 43, 57, 63])
def test_shrinking_passes_over_no_pixel(size):
    """A bright column leaves about the light that it does in an average over 64 / size columns."""
    for column in range(64):
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, column] = 255
        light = video_module._resize(image, size, size)[0, :, 0].sum()
        assert 0.5 < light / (255 * size / 64) < 1.6


def test_one_axis_may_shrink_and_the_other_grow(tmp_path):
    path = make_stripes(tmp_path / 'stripes.mp4', pixel_aspect=fractions.Fraction(16))
    assert np.abs(read_first(path, 16, 256).astype(int) - 64).max() < 16


@pytest.mark.parametrize(
    'codec, channels',
    [('pcm_s16le', 2), ('pcm_f32le', 2), ('pcm_u8', 1), ('pcm_s16le', 6), ('pcm_s32le', 1)],
)
def test_mono_is_the_mean_of_the_channels(tmp_path, codec, channels):
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, (channels, 48_000))
    path = make_media(tmp_path / 'sound.mkv', frame_times(25, 1), sound=sound, audio_codec=codec)
    audio = read_window(path, 0.0, SMALL).audio[:, 0]
    expected = sound.mean(0)[: len(audio)] * 32768
    assert np.abs(audio - expected).max() <= (256 if codec == 'pcm_u8' else 1)


@pytest.mark.parametrize('sample_rate', [8_000, 48_000])
def test_plain_aac_needs_no_long_run_up(tmp_path, sample_rate):
    """Wherever a window begins in its frames, its audio is as in a decode from the start."""
    noise = np.random.default_rng(0).normal(0, 3000, (3 * sample_rate, 1)).astype(np.int16)
    path = tmp_path / 'noise.mp4'
    write_media(path, np.zeros((75, 16, 16, 3), np.uint8), noise, sample_rate=sample_rate)
    spec = ClipSpec(frames=15, height=8, width=8)
    whole = np.concatenate([clip.audio for clip, _ in read_windows(path, spec)]).astype(int)
    for frame in range(45, 60):
        heard = read_window(path, frame / 25, spec).audio
        first = frame * spec.samples_per_frame
        assert np.abs(heard - whole[first : first + spec.samples]).max() <= 2


def test_peaks_are_clipped(tmp_path):
    sound = np.tile([1.7, -1.7, 0.25], 16_000)
    path = make_media(
        tmp_path / 'loud.mkv', frame_times(25, 1), sound=sound, audio_codec='pcm_f32le'
    )
    audio = read_window(path, 0.0, SMALL).audio[:, 0]
    np.testing.assert_array_equal(audio[:6], [32767, -32768, 8192] * 2)


def test_the_cover_of_a_song_is_no_video(tmp_path):
    with av.open(str(tmp_path / 'song.mp3'), 'w') as container:
        audio = container.add_stream('libmp3lame', rate=48_000, layout='mono')
        cover = container.add_stream('png', rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt = 'rgb24'
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format='rgb24')
        picture.pts = 0
        container.mux(cover.encode(picture) + cover.encode(None))
        sound = av.AudioFrame.from_ndarray(
            np.ones((1, 48_000), np.float32), format='fltp', layout='mono'
        )
        sound.sample_rate, sound.pts = 48_000, 0
        container.mux(audio.encode(sound) + audio.encode(None))
    assert probe(tmp_path / 'song.mp3').has_video is False
    with pytest.raises(UnreadableMedia, match='no video'):
        read_window(tmp_path / 'song.mp3', 0.0, SMALL)


def test_only_what_is_asked_for_is_read(tmp_path):
    both = tmp_path / 'both.mp4'
    make_media(
        both,
        [t + fractions.Fraction(1, 2) for t in frame_times(24, 2)],
        sound=burst(1.1, 48_000, 2 * 48_000),
    )
    picture = make_media(tmp_path / 'picture.mp4', frame_times(25, 1))
    sound = make_media(tmp_path / 'sound.m4a', sound=burst(0.1, 48_000, 48_000))
    no_video, no_audio = (
        ClipSpec(frames=8, height=8, width=8, **{name: False}) for name in ('video', 'audio')
    )
    whole = read_window(both, 0.5, SMALL)
    np.testing.assert_array_equal(read_window(both, 0.5, no_video).audio, whole.audio)
    assert read_window(both, 0.5, no_video).video is None
    assert read_window(both, 0.5, no_audio).audio is None
    assert not read_window(picture, 0.0, SMALL).audio.any()
    assert read_window(sound, 0.0, no_video).audio.any()
    info = probe(sound)
    assert (info.has_video, info.has_audio, info.width, info.height) == (False, True, 0, 0)
    assert info.seconds == pytest.approx(1, abs=0.03)
    assert [real for _, real in read_windows(sound, no_video)] == [8, 8, 8, 1]
    assert probe(picture).has_audio is False
    for path, spec, reason in (
        (sound, SMALL, 'no video'),
        (picture, no_video, 'no audio'),
        (sound, no_audio, 'no video'),
    ):
        with pytest.raises(UnreadableMedia, match=reason):
            read_window(path, 0.0, spec)
    with pytest.raises(UnreadableMedia, match='ends before'):
        read_window(sound, 0.9, no_video)


def reading(path):
    """Calls to everything that reads."""
    return (
        lambda: probe(path),
        lambda: read_window(path, 0.0, SMALL),
        lambda: list(read_windows(path, SMALL)),
    )


def assert_unreadable(path, reason=None):
    for read in reading(path):
        with pytest.raises(UnreadableMedia, match=reason) as caught:
            read()
        assert '\n' not in str(caught.value) and str(path) not in str(caught.value)


def test_what_is_no_media_file_is_refused_with_a_reason(tmp_path):
    whole = make_media(tmp_path / 'whole.mp4', frame_times(25, 2)).read_bytes()
    files = {
        'empty.mp4': b'',
        'text.mp4': b'version https://git-lfs.github.com/spec/v1\n',
        'noise.mp4': bytes(range(256)) * 50,
        'cut.mp4': whole[: len(whole) // 2],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        assert_unreadable(tmp_path / name, 'empty' if name == 'empty.mp4' else 'damaged')
    assert_unreadable(tmp_path / 'absent.mp4', 'no such file')
    assert_unreadable(tmp_path, 'no such file')


def test_a_damaged_frame_spoils_its_window_only(tmp_path):
    path = make_media(
        tmp_path / 'clip.mkv',
        frame_times(25, 2),
        images=list(np.random.default_rng(0).integers(0, 255, (50, SIZE, SIZE, 3), np.uint8)),
    )
    content = bytearray(path.read_bytes())
    content[-len(content) // 3 : -len(content) // 3 + 2000] = bytes(2000)
    path.write_bytes(content)
    read_window(path, 0.0, SMALL)
    with pytest.raises(UnreadableMedia):
        for start in np.arange(0, 1.6, 0.1):
            read_window(path, start, SMALL)
    with pytest.raises(UnreadableMedia):
        list(read_windows(path, SMALL))


def test_no_other_file_and_no_address_is_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = make_media(tmp_path / 'clip.ts', frame_times(25, 2))
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = f'http://127.0.0.1:{server.getsockname()[1]}/clip.ts'
        for target in (clip.as_posix(), 'clip.ts', address):
            for name, text in {
                'list.m3u8': '#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n'
                f'{target}\n#EXT-X-ENDLIST\n',
                'list.mp4': f'ffconcat version 1.0\nfile {target}\n',
            }.items():
                (tmp_path / name).write_text(text)
                assert_unreadable(tmp_path / name)
                assert_unreadable(text.encode())
        for path in (address, f'concat:{clip}|{clip}', f'file:{clip}', 'pipe:0', f'crypto:{clip}'):
            assert_unreadable(path, 'no such file')
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    'name', ['-dash.mp4', 'a:b.mp4', 'http:x.mp4', 'with space %d #?.mp4', 'ünï.mp4']
)
def test_any_name_is_a_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make_media(tmp_path / 'plain.mp4', frame_times(25, 1)).rename(tmp_path / name)
    assert probe(name).seconds == 1
    assert read_number(read_window(pathlib.Path(name), 0.2, SMALL).video[0]) == 5


@pytest.mark.parametrize(
    'name, kwargs',
    [
        ('clip.mp4', {}),
        ('clip.mkv', {}),
        ('clip.ts', {}),
        ('clip.avi', {'video_codec': 'mpeg4', 'audio_codec': 'pcm_s16le'}),
    ],
)
def test_bytes_are_read_as_the_file_is(tmp_path, name, kwargs):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 48_000)
    path = make_media(tmp_path / name, frame_times(25, 3), sound=sound, **kwargs)
    content = path.read_bytes()
    assert probe(content) == probe(path)
    for start in (0.0, 1.3):
        for one, other in zip(read_window(content, start, SMALL), read_window(path, start, SMALL)):
            np.testing.assert_array_equal(one, other)
    assert [real for _, real in read_windows(content, SMALL)] == [
        real for _, real in read_windows(path, SMALL)
    ]


def test_bytes_that_are_no_media_are_refused_with_a_reason(tmp_path):
    whole = make_media(tmp_path / 'whole.mp4', frame_times(25, 2)).read_bytes()
    assert_unreadable(b'', 'empty')
    for content in (b'/etc/hostname', bytes(range(256)) * 50, whole[: len(whole) // 2]):
        assert_unreadable(content, 'damaged')


def test_a_negative_start_is_refused(tmp_path):
    path = make_media(tmp_path / 'clip.mp4', frame_times(25, 1))
    for start in (-0.1, float('nan')):
        with pytest.raises(ValueError, match='at least 0'):
            read_window(path, start, SMALL)


def test_nothing_waits_for_the_garbage_collector(tmp_path):
    """Megabytes of decoded frames would, for each clip."""
    path = make_media(tmp_path / 'clip.mp4', frame_times(25, 1), sound=np.zeros(48_000))
    gc.collect()
    gc.disable()
    try:
        for read in reading(path):
            read()
        kept = [
            each
            for each in gc.get_objects()
            if isinstance(
                each, VideoReader | AudioReader | av.VideoFrame | av.AudioFrame | av.Packet
            )
        ]
    finally:
        gc.enable()
    assert not kept


def test_nothing_stays_open(tmp_path):
    descriptors = pathlib.Path('/proc/self/fd')
    if not descriptors.is_dir():
        pytest.skip('the open files of a process are listed under /proc on Linux only')
    good = make_media(tmp_path / 'good.mp4', frame_times(25, 1))
    bad = tmp_path / 'bad.mp4'
    bad.write_bytes(good.read_bytes()[:-200])
    before = len(list(descriptors.iterdir()))
    for path in (good, bad):
        for read in reading(path):
            with contextlib.suppress(UnreadableMedia):
                read()
    windows = read_windows(good, SMALL)
    next(windows)
    windows.close()
    assert len(list(descriptors.iterdir())) == before
