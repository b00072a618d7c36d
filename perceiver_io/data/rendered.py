"""A data set of clips that are drawn from a seed and written as MP4 files. Not in the paper.

A shape moves over a gradient and makes a tone. Video and audio belong together: the class is the
shape and the pitch, the height of the shape is the loudness, and its horizontal place is the pan.
Anyone can have this data set without a download, and a small model can learn it.

By default each tone begins at a random phase: the video tells pitch and loudness, but not the
samples of the audio. With `phase='fixed'` it tells them too, as every frame begins at phase 0.
"""

import colorsys
import os
import pathlib
import zlib
from concurrent import futures
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from perceiver_io.core import files
from perceiver_io.core.errors import UsageError
from perceiver_io.core.luma import LUMA
from perceiver_io.core.progress import progress_bar
from perceiver_io.data.config import RenderPhase
from perceiver_io.media import writer

Floats: TypeAlias = npt.NDArray[Any]

FRAME_RATE = 25
SAMPLE_RATE = 44_100

_VERSION = 2  # part of the folder's name: raise it when render_clip draws anything else
_LUMA = np.array(LUMA, np.float32)


# Each shape is a signed distance, negative inside, of x to the right and y up, in units of the
# shape's radius. Distances are exact within a pixel of the edge, where they are used.


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 1


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.hypot(x, y) - 0.75) - 0.25


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _square(x: Floats, y: Floats) -> Floats:
    return _box(x, y, 0.8, 0.8)


def _cross(x: Floats, y: Floats) -> Floats:
    return np.minimum(_box(x, y, 1, 0.32), _box(x, y, 0.32, 1))


def _triangle(x: Floats, y: Floats) -> Floats:
    slope = np.sqrt(3) / 2 * np.abs(x) + 0.5 * y
    return np.maximum(slope, -y) - 0.5


def _star(x: Floats, y: Floats) -> Floats:
    # The plane is folded into one of ten equal wedges, in which the outline is one straight edge
    # from the tip (radius 1 at angle 0) to the notch (radius 0.45 at angle pi / 5).
    wedge = 2 * np.pi / 5
    angle = np.abs((np.arctan2(x, y) + wedge / 2) % wedge - wedge / 2)
    radius = np.hypot(x, y)
    notch_x, notch_y = 0.45 * np.cos(wedge / 2), 0.45 * np.sin(wedge / 2)
    edge = np.hypot(1 - notch_x, notch_y)
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    return ((along - 1) * notch_y + across * (1 - notch_x)) / edge


# The pitches are C2 to G3, in Hz.
_SHAPES = {
    'circle': (_circle, 65.41),
    'square': (_square, 82.41),
    'triangle': (_triangle, 98.00),
    'cross': (_cross, 123.47),
    'ring': (_ring, 155.56),
    'star': (_star, 196.00),
}
CLASSES = tuple(_SHAPES)
# A whole number of periods in each frame: every frame begins at the same phase.
_FIXED_PITCHES = [FRAME_RATE * periods for periods in range(3, 9)]


def _colour(hue: float, luma: float) -> Floats:
    """[3] RGB in [0, 1] of this hue and luma: a vivid colour, darkened or mixed with white."""
    vivid = np.array(colorsys.hsv_to_rgb(hue % 1, 0.8, 1), np.float32)
    vivid_luma = vivid @ _LUMA
    if luma <= vivid_luma:
        return vivid * (luma / vivid_luma)
    return vivid + (1 - vivid) * ((luma - vivid_luma) / (1 - vivid_luma))


def _bounce(start: float, speed: float, time: Floats) -> Floats:
    """Position in [0, 1] of a point that moves back and forth at a constant speed."""
    return 1 - np.abs((start + speed * time) % 2 - 1)


def render_clip(
    class_index: int,
    rng: np.random.Generator,
    *,
    size: int = 64,
    seconds: float = 2.0,
    phase: RenderPhase = 'random',
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one clip.

    Args:
        class_index: index into `CLASSES`.
        rng: decides everything but the class.
        size: height and width in pixels.
        seconds: length of the clip.
        phase: 'random', or 'fixed' for tones of which every frame begins at phase 0; their pitches
            are multiples of the frame rate, 75 to 200 Hz.

    Returns:
        video: [t, size, size, 3] uint8 at `FRAME_RATE`.
        audio: [s, 2] float32 in [-1, 1] at `SAMPLE_RATE`, left and right.
    """
    distance, pitch = _SHAPES[CLASSES[class_index]]
    radius = rng.uniform(0.2, 0.3)
    start = rng.uniform(0, 2, size=2)  # x and y; the second half of the range moves backwards
    speed = rng.uniform(0.4, 1.0, size=2)

    # Video. x and y are in [0, 1], to the right and up.
    time = np.arange(round(seconds * FRAME_RATE), dtype=np.float32) / FRAME_RATE
    x, y = (radius + (1 - 2 * radius) * _bounce(start[i], speed[i], time) for i in range(2))
    pixels = (np.arange(size, dtype=np.float32) + 0.5) / size
    to_right = pixels[None, None, :] - x[:, None, None].astype(np.float32)
    to_top = 1 - pixels[None, :, None] - y[:, None, None].astype(np.float32)
    outside = distance(to_right / radius, to_top / radius) * (radius * size)  # in pixels
    cover = np.clip(0.5 - outside, 0, 1).astype(np.float32)[..., None]  # [t, h, w, 1]
    background, foreground = _draw_colours(rng, pixels)
    video = background + cover * (foreground - background)

    # Audio, of the same places and times.
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    across, height = (_bounce(start[i], speed[i], time) for i in range(2))
    first = rng.uniform(0, 2 * np.pi)
    if phase == 'fixed':
        pitch, first = _FIXED_PITCHES[class_index], 0.0
    angle = 2 * np.pi * pitch * time + first
    tone = (0.2 + 0.55 * height) * (np.sin(angle) + 0.25 * np.sin(2 * angle))
    pan = np.pi / 2 * across  # equal power: the squares of both sides add up to one
    audio = tone[:, None] * np.stack([np.cos(pan), np.sin(pan)], axis=-1)
    return np.rint(video * 255).astype(np.uint8), audio.astype(np.float32)


def _draw_colours(rng: np.random.Generator, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A gradient [h, w, 3], and the colour [3] of a shape that contrasts with all of it."""
    hue = rng.uniform()
    if rng.uniform() < 0.5:
        low, high, shape = 0.12, 0.60, 0.92  # a bright shape on a dark gradient
    else:
        low, high, shape = 0.40, 0.88, 0.08  # a dark shape on a bright gradient
    one = _colour(hue, low)
    other = _colour(hue + rng.uniform(0.15, 0.4), high)
    foreground = _colour(hue + rng.uniform(0.55, 0.85), shape)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(angle) * (pixels[None, :] - 0.5) + np.sin(angle) * (pixels[:, None] - 0.5)
    ramp = 0.5 + ramp / (np.abs(np.cos(angle)) + np.abs(np.sin(angle)))  # [h, w] in [0, 1]
    background = one + ramp[..., None].astype(np.float32) * (other - one)
    return background, foreground


def render_folder(
    cache_dir: str | os.PathLike[str],
    *,
    seed: int = 0,
    train_clips: int = 300,
    val_clips: int = 60,
    size: int = 64,
    seconds: float = 2.0,
    phase: RenderPhase = 'random',
    progress: bool = True,
) -> pathlib.Path:
    """Renders a data set, unless it exists already.

    Clip i has class i modulo the number of classes. A clip depends only on (seed, split, index), so
    that the splits share none, and files that an interrupted run completed are kept.

    Args:
        cache_dir: in which the data set gets a folder, named by everything that it depends on.
        seed: at least 0; another seed gives other clips.
        train_clips: clips of the split `train`.
        val_clips: clips of the split `val`.
        size: height and width in pixels.
        seconds: length of a clip.
        phase: as for `render_clip`.
        progress: whether to show a progress bar.

    Returns:
        The folder: MP4 files (H.264 at `FRAME_RATE`, AAC in stereo at `SAMPLE_RATE`) and a
        `labels.csv` with the columns file, label and split, for `folder.open_folder`.

    Raises:
        UsageError: a setting is out of range.
        OSError: the folder cannot be written.
    """
    if min(train_clips, val_clips) < 1 or seed < 0 or size < 16 or seconds * FRAME_RATE < 1:
        raise UsageError(
            f'{train_clips=} and {val_clips=} must be at least 1, {seed=} at least 0, {size=} at '
            f'least 16 pixels and {seconds=} at least one frame (1/{FRAME_RATE}): raise it'
        )
    root = pathlib.Path(cache_dir).expanduser() / (
        f'rendered_v{_VERSION}_seed{seed}_{train_clips}+{val_clips}_{size}px_{seconds:g}s'
        + ('' if phase == 'random' else f'_{phase}_phase')
    )
    table = root / 'labels.csv'
    if table.exists():  # written last
        return root

    clips = [
        (split, index)
        for split, count in (('train', train_clips), ('val', val_clips))
        for index in range(count)
    ]
    rows = [
        (f'{split}/{_class_name(index)}_{index:05d}.mp4', _class_name(index), split)
        for split, index in clips
    ]
    for split in ('train', 'val'):
        (root / split).mkdir(parents=True, exist_ok=True)

    def write(clip: tuple[str, int], row: tuple[str, str, str]) -> None:
        path = root / row[0]
        if path.exists():  # complete, because a writer names its file last
            return
        split, index = clip
        rng = np.random.default_rng([seed, zlib.crc32(split.encode()), index])
        video, audio = render_clip(
            index % len(CLASSES), rng, size=size, seconds=seconds, phase=phase
        )
        writer.write_media(
            path,
            video,
            np.rint(audio * 32767).astype(np.int16),
            frame_rate=FRAME_RATE,
            sample_rate=SAMPLE_RATE,
        )

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # encoding releases the GIL
        done = pool.map(write, clips, rows)
        bar = progress_bar(
            done, 'rendering clips', total=len(rows), unit='clip', disable=not progress
        )
        for _ in bar:
            pass
    columns = ('file', 'label', 'split')
    files.write_csv(table, [dict(zip(columns, row)) for row in rows])
    return root


def _class_name(index: int) -> str:
    return CLASSES[index % len(CLASSES)]
