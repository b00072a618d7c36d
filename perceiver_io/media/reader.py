"""Windows of video and audio from media files. The only reader of media files.

Windows are cut by time. The timeline of a file begins with its first video frame (with its audio,
where it has no video), and a window is `spec.seconds` of it: output frame i is the frame on screen
at start + i / spec.frame_rate, and the audio is what is heard from `start` on.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.media.audio import AudioReader
from perceiver_io.media.containers import (
    Media,
    UnreadableMedia,
    has_stream,
    open_media,
    seeks_exactly,
    stream_end,
    video_stream,
)
from perceiver_io.media.video import VideoReader

__all__ = [
    'Media',
    'MediaInfo',
    'UnreadableMedia',
    'probe',
    'read_window',
    'read_windows',
    'read_windows_at',
]


@dataclasses.dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        seconds: from the first video frame to the end of the last; of the audio, where there is no
            video. Windows start in [0, seconds - spec.seconds].
        width: in pixels as displayed, after sample aspect ratio and rotation; 0 without video.
        height: in pixels as displayed; 0 without video.
        frame_rate: video frames per second, on average; 0 without video.
        has_video: whether there is video that can be decoded.
        has_audio: whether there is audio that can be decoded.
    """

    seconds: float
    width: int
    height: int
    frame_rate: float
    has_video: bool
    has_audio: bool


def probe(media: Media) -> MediaInfo:
    """What the file holds, by its header, its first video frame and its last packets.

    Raises:
        UnreadableMedia: it is not a media file, has no streams, or is damaged in one of these
            places.
    """
    with open_media(media) as head, open_media(media) as tail:
        has_video, has_audio = has_stream(head, 'video'), has_stream(head, 'audio')
        if not has_video and not has_audio:
            raise UnreadableMedia('it has neither video nor audio')
        if not has_video:
            seconds = stream_end(tail, 'audio') - AudioReader(head).origin
            return MediaInfo(seconds, 0, 0, 0.0, has_video=False, has_audio=True)
        rate = float(video_stream(head).average_rate or 0)
        video = VideoReader(head)
        width, height = video.displayed_size()
        seconds = stream_end(tail, 'video') - video.origin
        return MediaInfo(seconds, width, height, rate, has_video=True, has_audio=has_audio)


def read_window(media: Media, start: float, spec: ClipSpec) -> Clip:
    """The window of the file that begins at `start`.

    Args:
        media: the path of a local file, or its content.
        start: seconds on the file's timeline, at least 0.
        spec: the sizes and rates; `spec.video` and `spec.audio` say what is read.

    Returns:
        A clip without label. Video uint8 [t, h, w, 3] is the largest centred part of the displayed
        frame that has the aspect of h x w, resized; audio int16 [s, 1] is the mean of the channels,
        0 where there is no audio. A modality that is not asked for is None.

    Raises:
        UnreadableMedia: the window ends more than half an output frame after the file does, or
            something in it does not decode, or the file lacks video that is asked for, or has
            neither.
    """
    [clip] = read_windows_at(media, [start], spec)
    return clip


def read_windows_at(media: Media, starts: Sequence[float], spec: ClipSpec) -> list[Clip]:
    """The windows that begin at `starts`, in any order, which may overlap: see `read_window`.

    The file is opened once. A frame in several windows is decoded once, and those between windows
    only up to the next key frame.
    """
    for start in starts:
        if not start >= 0:
            raise UserError(f'{start=} must be at least 0')
    ascending = sorted(set(starts))
    with _open_windows(media, ascending[0], spec, once=True) as windows:
        found = dict(zip(ascending, windows(ascending)))
    for start, (_, valid) in found.items():
        if valid < spec.frames:
            raise UnreadableMedia(f'it ends before {start + spec.seconds:.2f} s')
    return [found[start][0] for start in starts]


def read_windows(
    media: Media, spec: ClipSpec, on_short: Literal['pad', 'drop'] = 'pad'
) -> Iterator[tuple[Clip, int]]:
    """The whole file as consecutive windows, decoded once and in bounded memory.

    Yields:
        A clip as `read_window` returns it, and how many of its frames are valid: all of them, but
        for the last window, which repeats its last valid frame and ends in silence, or is left out
        where `on_short` is 'drop'.

    Raises:
        UnreadableMedia: at the window that does not decode, or where the file is shorter than one
            frame.
    """
    if on_short not in ('pad', 'drop'):
        raise UserError(f"{on_short=} must be 'pad' or 'drop'")
    with _open_windows(media, 0.0, spec) as windows:
        index, valid = 0, spec.frames
        while valid == spec.frames:
            [(clip, valid)] = windows([index * spec.seconds])
            if not valid and not index:
                raise UnreadableMedia('it is shorter than a frame of the output')
            if valid == spec.frames or valid and on_short == 'pad':
                yield clip, valid
            index += 1


@contextlib.contextmanager
def _open_windows(
    media: Media, offset: float, spec: ClipSpec, once: bool = False
) -> Iterator[Callable[[Sequence[float]], list[tuple[Clip, int]]]]:
    """A function from windows' starts to (clip, valid frames); for ascending starts >= `offset`.

    Video and audio are read from a container each, because each seeks to its own place. Where the
    function is called `once` and the format seeks, the audio is read from that of the video.
    """
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(open_media(media))
        has_video = has_stream(container, 'video')
        has_audio = has_stream(container, 'audio')
        if spec.video and not has_video:
            raise UnreadableMedia('it has no video')
        if not spec.video and not has_audio:
            raise UnreadableMedia('it has no audio')
        video = VideoReader(container, offset) if has_video else None
        origin = video.origin if video else AudioReader(container, offset).origin
        seconds = math.nan if spec.video else probe(media).seconds

        @functools.cache
        def audio_in_order() -> AudioReader:
            return AudioReader(stack.enter_context(open_media(media)), offset, origin)

        def audio_from(start: float) -> AudioReader:
            shared = once and seeks_exactly(container)
            return AudioReader(container, start, origin) if shared else audio_in_order()

        def window(start: float, images: np.ndarray | None, valid: int) -> tuple[Clip, int]:
            samples = None
            if spec.audio:
                samples = np.zeros((spec.samples, 1), np.int16)
                end = valid * spec.samples_per_frame
                if has_audio:
                    samples[:end, 0] = audio_from(start).window(origin + start, spec)[:end]
            return Clip(images, samples), valid

        def windows(starts: Sequence[float]) -> list[tuple[Clip, int]]:
            if spec.video and video:
                videos = video.windows([origin + start for start in starts], spec)
                return [window(start, *each) for start, each in zip(starts, videos)]
            valid = [
                min(max(math.floor((seconds - start) * spec.frame_rate + 0.5), 0), spec.frames)
                for start in starts
            ]
            return [window(start, None, each) for start, each in zip(starts, valid)]

        yield windows
