"""Windows of picture and sound out of media files. The only reader of media files.

Everything happens by time. A file's timeline begins with its first picture (with its sound, where
it has no picture), and a window is `spec.seconds` of it: output frame i shows what is on screen at
start + i / spec.frame_rate, and the sound is what is heard from `start` on.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.media.containers import (
    Media,
    UnreadableMedia,
    main_stream,
    open_media,
    seeks_exactly,
    stream_end,
)
from perceiver_io.media.streams import Picture, Sound

__all__ = ['Media', 'MediaInfo', 'UnreadableMedia', 'probe', 'read_window', 'read_windows']


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        seconds: from the first picture to the end of the last; of the sound, where there is no
            picture. Windows start in [0, seconds - spec.seconds].
        width: in pixels as displayed, after sample aspect ratio and rotation; 0 without picture.
        height: in pixels as displayed; 0 without picture.
        frame_rate: frames per second, on average; 0 without picture.
        has_video: whether there is a picture that can be decoded.
        has_audio: whether there is sound that can be decoded.
    """

    seconds: float
    width: int
    height: int
    frame_rate: float
    has_video: bool
    has_audio: bool


def probe(media: Media) -> MediaInfo:
    """What the file holds, by its header, its first picture and its last packets.

    Raises:
        UnreadableMedia: it is no media file, has no streams, or is damaged in one of these places.
    """
    with open_media(media) as head, open_media(media) as tail:
        video, audio = main_stream(head, 'video'), main_stream(head, 'audio')
        if video is None and audio is None:
            raise UnreadableMedia('it has neither picture nor sound')
        if video is None:
            return MediaInfo(stream_end(tail, 'audio') - Sound(head).origin, 0, 0, 0.0, False, True)
        picture = Picture(head)
        width, height = picture.displayed_size()
        return MediaInfo(
            stream_end(tail, 'video') - picture.origin,
            width,
            height,
            float(video.average_rate or 0),
            True,
            audio is not None,
        )


def read_window(media: Media, start: float, spec: ClipSpec) -> Clip:
    """The window of the file that begins at `start`.

    Args:
        media: the path of a local file, or all that is in it.
        start: seconds on the file's timeline, at least 0.
        spec: the sizes and rates; `spec.video` and `spec.audio` say what is read.

    Returns:
        A clip without label. Video uint8 [t, h, w, 3] is the largest centred part of the displayed
        picture that has the aspect of h x w, resized; audio int16 [s, 1] is the mean of the
        channels, 0 where there is no sound. What is not asked for is None.

    Raises:
        UnreadableMedia: the window reaches past the end by over half an output frame, or something
            in it does not decode, or the file has none of what is asked for.
    """
    if not start >= 0:
        raise UserError(f'{start=} must be at least 0')
    with _open_windows(media, start, spec, once=True) as window:
        clip, real = window(start)
    if real < spec.frames:
        raise UnreadableMedia(f'it ends before {start + spec.seconds:.2f} s')
    return clip


def read_windows(
    media: Media, spec: ClipSpec, on_short: Literal['pad', 'drop'] = 'pad'
) -> Iterator[tuple[Clip, int]]:
    """The whole file as consecutive windows, decoded once and in bounded memory.

    Yields:
        A clip as `read_window` returns it, and how many of its frames are real: all of them, but
        for the last window, which repeats its last frame and ends in silence, or is left out where
        `on_short` is 'drop'.

    Raises:
        UnreadableMedia: at the window that does not decode, or where the file has no whole frame.
    """
    if on_short not in ('pad', 'drop'):
        raise UserError(f"{on_short=} must be 'pad' or 'drop'")
    with _open_windows(media, 0.0, spec) as window:
        index, real = 0, spec.frames
        while real == spec.frames:
            clip, real = window(index * spec.seconds)
            if not real and not index:
                raise UnreadableMedia('it is shorter than a frame of the output')
            if real == spec.frames or real and on_short == 'pad':
                yield clip, real
            index += 1


@contextlib.contextmanager
def _open_windows(
    media: Media, offset: float, spec: ClipSpec, once: bool = False
) -> Iterator[Callable[[float], tuple[Clip, int]]]:
    """A function from a window's start to (clip, real frames); for ascending starts >= `offset`.

    Picture and sound are read through an opening each, because each seeks to its own place; where
    the function is called `once`, the sound can have that of the picture, if the format seeks.
    """
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_media(media))
        has_video = main_stream(container, 'video') is not None
        has_audio = main_stream(container, 'audio') is not None
        if spec.video and not has_video:
            raise UnreadableMedia('it has no picture')
        if not spec.video and not has_audio:
            raise UnreadableMedia('it has no sound')
        timeline = (Picture if has_video else Sound)(container, offset)
        seconds = math.nan if spec.video else probe(media).seconds

        @functools.cache
        def sound():
            shared = once and seeks_exactly(container)
            return Sound(
                container if shared else stack.enter_context(open_media(media)),
                offset,
                timeline.origin,
            )

        def window(start):
            time = timeline.origin + start
            video = audio = None
            if spec.video:
                video, real = timeline.window(time, spec)
            else:
                real = math.floor((seconds - start) * spec.frame_rate + 0.5)
                real = min(max(real, 0), spec.frames)
            if spec.audio:
                audio = np.zeros((spec.samples, 1), np.int16)
                samples = real * spec.samples_per_frame
                if has_audio:
                    audio[:samples, 0] = sound().window(time, spec)[:samples]
            return Clip(video, audio), real

        yield window
