import csv
import zlib

import av
import numpy as np
import pytest

from perceiver_io.data import rendered

LUMA = np.array([0.299, 0.587, 0.114])


def draw(class_index, seed, **arguments):
    return rendered.render_clip(class_index, np.random.default_rng(seed), **arguments)


def shape_mask(video):
    """[t, h, w] bool: the shape is much brighter, or much darker, than any of the gradient."""
    luma = video / 255 @ LUMA
    bright, dark = luma > 0.76, luma < 0.24
    return bright if np.median(luma) < 0.5 and bright.any() else dark


def test_shapes_types_and_ranges():
    video, audio = draw(0, 0, size=32, seconds=0.5)
    assert video.shape == (12, 32, 32, 3) and video.dtype == np.uint8
    assert audio.shape == (22_050, 2) and audio.dtype == np.float32
    for seed in range(20):
        audio = draw(seed % 6, seed, size=16, seconds=4)[1]
        assert 0.1 < np.abs(audio).max() < 1


def test_the_seed_decides_the_clip():
    for one, other in zip(draw(1, 5), draw(1, 5)):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(draw(1, 5), draw(1, 6)):
        assert (one != other).any()


@pytest.mark.parametrize(
    'class_index, pitch', [(0, 65), (1, 82), (2, 98), (3, 123), (4, 156), (5, 196)]
)
def test_pitch_is_the_class(class_index, pitch):
    _, audio = draw(class_index, 0, size=16, seconds=2)
    spectrum = np.abs(np.fft.rfft(audio.mean(-1)))
    assert np.argmax(spectrum) / 2 == pytest.approx(pitch, abs=0.5)


def test_with_a_fixed_phase_every_frame_begins_at_phase_0():
    """Then audio depends on the class, the place and the loudness alone, whatever the time."""
    _, audio = draw(4, 0, size=16, seconds=2, phase='fixed')
    frames = audio.mean(-1).reshape(50, -1)
    frames = frames / np.abs(frames).max(1, keepdims=True)  # without loudness and pan
    assert np.abs(np.diff(frames, axis=0)).max() < 0.25
    spectrum = np.abs(np.fft.rfft(audio.mean(-1)))
    assert np.argmax(spectrum) / 2 == pytest.approx(175, abs=0.5)
    for one, other in zip(draw(4, 0, phase='fixed')[0], draw(4, 0)[0]):
        np.testing.assert_array_equal(one, other)  # the same video


# Of the square around each shape, the part that the shape covers.
@pytest.mark.parametrize(
    'name, area',
    [
        ('circle', np.pi / 4),
        ('square', 0.8**2),
        ('triangle', 3 * 3**0.5 / 16),
        ('cross', 0.32 + 0.32 * 0.68),
        ('ring', np.pi / 4 * 0.75),  # half of the radius is open
        ('star', 10 * 0.45 * np.sin(np.pi / 5) / 2 / 4),  # ten triangles with sides 1 and 0.45
    ],
)
def test_shape_is_the_class(name, area):
    """Area relative to the widest extent of a circle of the same radius, which the seed fixes."""
    circle, _ = draw(0, 3, size=256, seconds=0.04)
    video, _ = draw(rendered.CLASSES.index(name), 3, size=256, seconds=0.04)
    diameter = shape_mask(circle)[0].any(0).sum()
    assert shape_mask(video).sum() / diameter**2 == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize('seed', range(4))
def test_audio_follows_the_shape(seed):
    """Height is loudness, left-right is pan, at the same instant."""
    video, audio = draw(seed, seed, size=64, seconds=2)
    mask = shape_mask(video)
    grid = (np.arange(64) + 0.5) / 64
    x = (mask * grid).sum((1, 2)) / mask.sum((1, 2))
    height = 1 - (mask * grid[:, None]).sum((1, 2)) / mask.sum((1, 2))
    # A window of three frames around each frame's start holds enough periods of any pitch.
    frame = rendered.SAMPLE_RATE // rendered.FRAME_RATE
    windows = [audio[(i - 1) * frame : (i + 2) * frame] for i in range(1, 48)]
    left, right = np.sqrt(np.mean(np.square(windows), axis=1)).T
    # The middle of that window lies half a frame after the frame's start.
    height, x = ((values[1:48] + values[2:49]) / 2 for values in (height, x))
    assert np.corrcoef(height, np.hypot(left, right))[0, 1] > 0.98
    assert np.corrcoef(x, np.arctan2(right, left))[0, 1] > 0.98


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return render(tmp_path_factory.mktemp('cache'))


def render(cache_dir, **arguments):
    arguments = dict(
        seed=1, train_clips=7, val_clips=2, size=32, seconds=0.6, progress=False, **arguments
    )
    return rendered.render_folder(cache_dir, **arguments)


def test_folder_holds_mp4_files(folder):
    with open(folder / 'labels.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['split'] for row in rows] == ['train'] * 7 + ['val'] * 2
    assert [row['label'] for row in rows[:7]] == [*rendered.CLASSES, rendered.CLASSES[0]]
    for row in rows:
        with av.open(folder / row['file']) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.codec_context.name == 'h264' and video.average_rate == 25
            assert (video.width, video.height, video.frames) == (32, 32, 15)
            assert audio.codec_context.name == 'aac' and audio.rate == 44_100
            assert audio.layout.name == 'stereo'


def test_splits_and_clips_differ(folder):
    files = sorted(folder.rglob('*.mp4'))
    assert len(files) == 9
    assert len({file.read_bytes() for file in files}) == 9


def test_the_encoded_video_is_the_drawn_one(folder):
    rng = np.random.default_rng([1, zlib.crc32(b'val'), 1])
    drawn, _ = rendered.render_clip(1, rng, size=32, seconds=0.6)
    with av.open(folder / 'val' / 'square_00001.mp4') as container:
        video = np.stack([f.to_ndarray(format='rgb24') for f in container.decode(video=0)])
    assert np.abs(video.astype(int) - drawn).mean() < 6


def test_a_whole_folder_is_not_touched(folder):
    before = {file: file.stat().st_mtime_ns for file in folder.rglob('*')}
    assert render(folder.parent) == folder
    assert before == {file: file.stat().st_mtime_ns for file in folder.rglob('*')}


def test_an_interrupted_folder_is_completed(tmp_path, folder):
    broken = render(tmp_path)
    (broken / 'labels.csv').unlink()
    (broken / 'train' / 'star_00005.mp4').unlink()
    kept = broken / 'train' / 'cross_00003.mp4'
    before = kept.stat().st_mtime_ns
    render(tmp_path)
    assert kept.stat().st_mtime_ns == before
    files = sorted(file.relative_to(folder) for file in folder.rglob('*'))
    assert files == sorted(file.relative_to(broken) for file in broken.rglob('*'))
    assert (broken / 'labels.csv').read_bytes() == (folder / 'labels.csv').read_bytes()


@pytest.mark.parametrize('wrong', [{'train_clips': 0}, {'seed': -1}, {'seconds': 0.01}])
def test_wrong_settings(tmp_path, wrong):
    with pytest.raises(ValueError, match=f'{next(iter(wrong))}='):
        rendered.render_folder(tmp_path, **wrong)
