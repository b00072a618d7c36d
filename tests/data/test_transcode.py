"""What is stored of a clip: its form, its sync, its bytes; and what is rejected."""

import fractions
import math

import av
import numpy as np
import pytest
from helpers.kinetics_trees import make_contents
from helpers.media_files import burst, burst_centre, frame_times, make_media

from perceiver_io.core.clip import ClipSpec
from perceiver_io.data.prepare import transcode
from perceiver_io.data.prepare.transcode import Rejected, Settings
from perceiver_io.media import reader


def stored(tmp_path, source, **settings):
    """The path of what is stored of a file."""
    scratch = tmp_path / 'scratch'
    scratch.mkdir(exist_ok=True)
    result = transcode.store(source, Settings(**settings), scratch)
    assert not list(scratch.iterdir())
    path = tmp_path / 'stored.mp4'
    path.write_bytes(result.media)
    return path, result


def waves(count, height, width):
    """Frames of waves of light, which a codec keeps well."""
    t, y, x = np.meshgrid(*map(np.arange, (count, height, width)), indexing='ij')
    wave = 127.5 + 100 * np.sin(0.03 * x + 0.05 * y + 0.2 * t)
    return list(np.repeat(wave[..., np.newaxis], 3, -1).astype(np.uint8))


@pytest.mark.parametrize(
    'size, expected',
    [
        ((360, 640), (256, 456)),
        ((640, 360), (456, 256)),
        ((256, 340), (256, 340)),
        ((120, 162), (120, 162)),
        ((300, 300), (256, 256)),
    ],
)
def test_the_form(tmp_path, size, expected):
    source = make_media(
        tmp_path / 'source.mkv',
        frame_times(30, 1.5),
        images=waves(45, *size),
        sound=np.zeros((2, 66_150)),
        sample_rate=44_100,
    )
    path, result = stored(tmp_path, source)
    assert (result.seconds, result.has_audio) == (1.52, True)  # half a frame counts as one
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec.name, video.pix_fmt) == ('h264', 'yuv420p')
        assert (video.height, video.width) == expected
        assert (video.average_rate, video.codec_context.has_b_frames) == (25, False)
        assert (audio.codec.name, audio.rate, audio.channels) == ('aac', 48_000, 1)
        packets = [packet for packet in container.demux(video) if packet.size]
    assert [index for index, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24, 36]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    for option in (b' cabac=0 ', b' deblock=0:'):  # x264 notes its options in the stream
        assert option in result.media


def test_the_video_is_kept(tmp_path):
    source = make_media(tmp_path / 'source.mp4', frame_times(25, 1), images=waves(25, 120, 160))
    path, _ = stored(tmp_path, source)
    spec = ClipSpec(frames=25, height=120, width=160, audio=False)
    before, after = (
        reader.read_window(each, 0.0, spec).video.astype(float) for each in (source, path)
    )
    assert 10 * np.log10(255**2 / np.square(before - after).mean()) > 38


UNEVEN = [fractions.Fraction(number * 40 + number % 3 * 10, 1000) for number in range(50)]


@pytest.mark.parametrize(
    'times, sample_rate, late',
    [
        (frame_times(15, 2), 48_000, 0),
        (frame_times(24, 2), 44_100, 0.1),
        (frame_times(25, 2), 22_050, 0),
        (frame_times(fractions.Fraction(30_000, 1001), 2), 48_000, 0),
        (frame_times(30, 2), 44_100, 0.03),
        (frame_times(50, 2), 22_050, 0),
        (UNEVEN, 44_100, 0.1),
    ],
)
@pytest.mark.parametrize('ticks', [0, 240])
def test_the_audio_stays_with_the_video(tmp_path, times, sample_rate, late, ticks):
    """A flash and a burst at about 1 s, in files that begin late or whose audio does: each is found
    where it was, the flash in the first frame of 25 per second after it.
    """
    time_base = fractions.Fraction(1, 100) if times is UNEVEN else times[1]
    start = ticks * time_base
    flash = next(time for time in times if time >= 1)
    images = [np.full((64, 64, 3), 235 if time >= flash else 16, np.uint8) for time in times]
    source = make_media(
        tmp_path / 'source.mkv',
        [time + start for time in times],
        images=images,
        time_base=time_base,
        sample_rate=sample_rate,
        sound_at=float(start) + late,
        sound=burst(float(flash) - late, sample_rate, round((2 - late) * sample_rate)),
    )
    path, _ = stored(tmp_path, source)
    shown = [
        clip.video[0].mean() > 128
        for clip, _ in reader.read_windows(path, ClipSpec(frames=1, height=8, width=8))
    ]
    assert shown.index(True) == math.ceil((float(flash) - 0.0005) * 25)
    sound = reader.read_window(path, 0.9, ClipSpec(frames=5, height=8, width=8)).audio[:, 0]
    assert 0.9 + burst_centre(sound) == pytest.approx(float(flash), abs=0.002)


def test_the_audio_of_a_window_is_as_in_a_decode_from_the_start(tmp_path):
    """AAC's noise substitution, which is another noise after a seek, is not used."""
    noise = np.random.default_rng(0).normal(0, 0.1, 5 * 48_000)
    source = make_media(
        tmp_path / 'source.mkv', frame_times(25, 5), sound=noise, audio_codec='libopus'
    )
    path, _ = stored(tmp_path, source)
    spec = ClipSpec(frames=25, height=8, width=8)
    whole = [clip.audio for clip, _ in reader.read_windows(path, spec)]
    assert np.abs(reader.read_window(path, 3.0, spec).audio - whole[3].astype(float)).max() <= 2


def test_the_same_clip_gives_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 80, 3), np.uint8) for _ in range(40)]
    source = make_media(
        tmp_path / 'source.mp4',
        frame_times(25, 1.6),
        images=images,
        sound=rng.normal(0, 0.1, 70_000),
    )
    assert len({stored(tmp_path, source)[1].media for _ in range(5)}) == 1


def test_upright_frames_with_square_pixels(tmp_path):
    source = make_media(
        tmp_path / 'source.mp4',
        frame_times(25, 1),
        rotation=90,
        images=[np.zeros((48, 64, 3), np.uint8)] * 25,
    )
    info = reader.probe(stored(tmp_path, source)[0])
    assert (info.width, info.height) == (48, 64)


@pytest.fixture(scope='module')
def contents(tmp_path_factory):
    return make_contents(tmp_path_factory.mktemp('contents') / 'contents')


@pytest.mark.parametrize('form', [{}, {'keep_original': True}, {'decoded': True}])
def test_every_damage_has_its_reason(tmp_path, contents, form):
    found = {}
    for name, (path, _) in contents.items():
        try:
            found[name] = (
                stored(
                    tmp_path,
                    path or tmp_path / 'absent.mp4',
                    missing_audio='skip',
                    **form,
                )[1]
                and ''
            )
        except Rejected as error:
            found[name] = error.reason
    assert found == {name: reason for name, (_, reason) in contents.items()}


def test_a_matroska_file_cut_off_between_two_packets(tmp_path):
    source = make_media(tmp_path / 'source.mkv', frame_times(25, 4), key_interval=5)
    data = source.read_bytes()
    reasons = set()
    for share in np.linspace(0.4, 0.7, 12):
        cut = tmp_path / 'cut.mkv'
        cut.write_bytes(data[: round(len(data) * share)])
        with pytest.raises(Rejected) as error:
            stored(tmp_path, cut)
        reasons.add(error.value.reason)
    assert reasons == {'damaged'}


def test_what_is_short_or_silent_is_up_to_the_settings(tmp_path, contents):
    path, _ = contents['silent']
    assert stored(tmp_path, path)[1].has_audio is False
    with pytest.raises(Rejected, match='short'):
        stored(tmp_path, path, min_seconds=1.1)
    for settings in ({'min_seconds': 0}, {'missing_audio': 'maybe'}):
        with pytest.raises(ValueError, match='must be'):
            Settings(**settings)


def test_a_full_disk_is_not_the_clips_fault(tmp_path, contents):
    with pytest.raises(OSError):
        transcode.store(contents['good'][0], Settings(), tmp_path / 'absent')


def test_real_clips(shared_clips, tmp_path):
    """What is wrong with the odd ones, as `clips.csv` and a decode of every frame tell."""
    found = {}
    for path in sorted((shared_clips / 'odd').iterdir()):
        if path.name == 'PandaGPT__a.mp4':
            continue  # 7 s of full HD
        try:
            found[path.name] = stored(tmp_path, path)[1] and ''
        except Rejected as error:
            found[path.name] = error.reason
    assert {name: reason for name, reason in found.items() if reason} == {
        '76UZQRJq028_181000_191000.mp4': 'not media',
        'Mpeg4.mp4': 'damaged',
        'corrupted.mp4': 'damaged',
        'gs-16b-2c-44100hz.mp4': 'no video',
        'nasa_13013_rotated.mp4': 'short',
        'result.webm': 'empty',
        'test_non_zero_start.mp4': 'short',
    }
    assert len(found) == 20
