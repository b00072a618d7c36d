"""The video stream of a file as a function of time, over PyAV and OpenCV.

Times are seconds as stored in the file, whose zero has no meaning. A file whose format seeks
exactly is entered at the last key frame before the time that is asked for, and gives the frames
that a decode from its beginning gives; any other is decoded from its beginning.
"""

import collections
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.packet import Packet
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media.containers import (
    UnreadableMedia,
    duration,
    packets_from,
    seeks_exactly,
    stream_start,
    times_are_scrambled,
    unit_of,
    video_stream,
)

cv2.setNumThreads(1)  # a frame is little work, and the loader reads many clips at once

_ROUNDING = 6e-4  # seconds: Matroska rounds times to milliseconds

Images: TypeAlias = npt.NDArray[np.uint8]


class _Shown(NamedTuple):
    begin: float
    end: float
    frame: av.VideoFrame


class VideoReader:
    """The video of a file, from a time on.

    Args:
        container: open, used by this object alone from now on.
        offset: seconds after the origin; only frames that are on screen from then on can be asked
            for.

    Attributes:
        origin: when the first frame appears, in seconds as stored.
    """

    def __init__(self, container: InputContainer, offset: float = 0.0) -> None:
        self._container = container
        self._stream = video_stream(container)
        self._stream.codec_context.thread_count = 1  # as for OpenCV
        self._reformatter = VideoReformatter()
        self._queue: collections.deque[_Shown] = collections.deque()
        if seeks_exactly(container):
            self.origin = stream_start(self._stream)
            self._shown = _shown_frames(container, self._stream, self.origin + offset)
            self._fetch()
        else:
            self._shown = _shown_frames(container, self._stream, -math.inf)
            self._fetch()
            self.origin = self._queue[0].begin

    def displayed_size(self) -> tuple[int, int]:
        """Width and height in pixels, after sample aspect ratio and rotation."""
        frame = self._queue[0].frame
        size = round(frame.width * self._pixel_aspect()), frame.height
        return size[::-1] if _quarter_turns(frame) % 2 else size

    def windows(self, times: Sequence[float], spec: ClipSpec) -> list[tuple[Images, int]]:
        """For each of `times`, the frames on screen at `time` + i / spec.frame_rate.

        The times ascend, also over several calls. Windows of one call may overlap.

        Returns:
            For each time, uint8 [t, h, w, 3], and how many of the t frames are valid: those of
            which at least half is before the end of the video. The others repeat the last valid
            one.
        """
        videos = [np.zeros((spec.frames, spec.height, spec.width, 3), np.uint8) for _ in times]
        valid = [0] * len(times)
        frames = [
            (time + i / spec.frame_rate, number, i)
            for number, time in enumerate(times)
            for i in range(spec.frames)
        ]
        last = None
        for time, number, i in sorted(frames):
            if number and not i:
                self._skip_to(time)
            shown = self._on_screen(time, for_seconds=0.5 / spec.frame_rate)
            if shown is None:
                break
            if shown is not last:
                image, last = self._image(shown.frame, spec), shown
            videos[number][i] = image
            valid[number] = i + 1
        for video, count in zip(videos, valid):
            video[count:] = video[max(count - 1, 0)]
        return list(zip(videos, valid))

    def _skip_to(self, time: float) -> None:
        """Leaves out frames before `time`, if the file can be entered at a key frame after them."""
        if not seeks_exactly(self._container) or self._queue[-1].end >= time:
            return
        entries, unit = self._stream.index_entries, unit_of(self._stream)
        found = entries.search_timestamp(math.floor(time / unit))
        if found >= 0 and entries[found].timestamp * unit > self._queue[-1].end:
            self._queue.clear()
            self._shown = _shown_frames(self._container, self._stream, time)
            self._fetch()

    def _on_screen(self, time: float, for_seconds: float) -> _Shown | None:
        """The frame on screen at `time`; None if the video ends less than `for_seconds` later."""
        while True:
            while len(self._queue) > 1 and self._queue[1].begin <= time + _ROUNDING:
                self._queue.popleft()
            if self._queue[-1].end >= time + for_seconds - _ROUNDING:
                return self._queue[0]
            if not self._fetch():
                return None

    def _fetch(self) -> bool:
        """Queues another frame; whether there is one."""
        shown = next(self._shown, None)
        if shown is not None:
            self._queue.append(shown)
        elif not self._queue:
            raise UnreadableMedia('no frame of its video decodes')
        return shown is not None

    def _image(self, frame: av.VideoFrame, spec: ClipSpec) -> Images:
        """uint8 [h, w, 3]: the centre of the displayed frame, in the aspect of the output."""
        if frame.is_corrupt:
            raise UnreadableMedia('a frame of its video is damaged')
        turns = _quarter_turns(frame)
        height, width = (spec.width, spec.height) if turns % 2 else (spec.height, spec.width)
        aspect = width / height / self._pixel_aspect()  # of the crop, in stored pixels
        crop_width = max(1, round(min(frame.width, frame.height * aspect)))
        crop_height = max(1, round(min(frame.height, frame.width / aspect)))
        top, left = (frame.height - crop_height) // 2, (frame.width - crop_width) // 2
        pixels = np.asarray(
            self._reformatter.reformat(frame, format='rgb24', threads=1).to_ndarray(), np.uint8
        )
        crop = pixels[top : top + crop_height, left : left + crop_width]
        return np.rot90(_resize(crop, height, width), turns)

    def _pixel_aspect(self) -> float:
        return float(self._stream.sample_aspect_ratio or 1)


# Functions and not methods: a generator that refers to the object that keeps it forms a cycle, and
# that keeps all decoded frames in memory until Python's garbage collector runs.


def _shown_frames(container: InputContainer, stream: VideoStream, time: float) -> Iterator[_Shown]:
    """Frames in the order in which they are shown, from `time` or before on."""
    begin, frame = 0.0, None
    counted = times_are_scrambled(container, stream)
    for index, following in enumerate(_frames(container, stream, time)):
        if counted:
            time = float(index / (stream.average_rate or 1))
        elif following.pts is None:
            raise UnreadableMedia('a frame of its video has no time')
        else:
            time = float(following.pts * unit_of(stream))
        if frame is not None:
            yield _Shown(begin, time, frame)
        begin, frame = time, following
    if frame is not None:
        yield _Shown(begin, begin + duration(stream, frame), frame)


def _frames(container: InputContainer, stream: VideoStream, time: float) -> Iterator[av.VideoFrame]:
    for packet, needed in _mark_needed(packets_from(container, stream, time), time):
        stream.codec_context.skip_frame = 'DEFAULT' if needed else 'NONREF'
        yield from packet.decode()


def _mark_needed(packets: Iterator[Packet], time: float) -> Iterator[tuple[Packet, bool]]:
    """Pairs each packet with whether its frame is on screen at `time` or later.

    Other frames are decoded only where later ones refer to them.
    """
    lead, on_screen = [], -math.inf
    for packet in packets:
        lead.append(packet)
        unit = float(packet.time_base)
        if packet.dts is None or packet.dts * unit > time + _ROUNDING:
            break
        if packet.pts is not None and not packet.is_discard:
            if packet.pts * unit <= time + _ROUNDING:
                on_screen = max(on_screen, packet.pts)
    for packet in lead:
        yield packet, packet.pts is None or packet.pts >= on_screen
    for packet in packets:
        yield packet, True


def _quarter_turns(frame: av.VideoFrame) -> int:
    """How often the stored frame is turned to the left by 90 degrees for display, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _resize(image: Images, height: int, width: int) -> Images:
    """Averages along an axis that shrinks below two thirds, and interpolates along any other.

    Down to two thirds, interpolation gives every pixel its weight, is nearer to a Lanczos filter
    than averaging, and is five times as fast.
    """
    down, across = (
        cv2.INTER_AREA if 3 * new < 2 * old else cv2.INTER_LINEAR
        for new, old in zip((height, width), image.shape)
    )
    resized: np.ndarray = image
    if down != across:  # OpenCV resizes both axes in one way
        resized = cv2.resize(image, (image.shape[1], height), interpolation=down)
    return np.asarray(cv2.resize(resized, (width, height), interpolation=across), np.uint8)
