"""One stream of a media file as a function of time: `Picture` and `Sound`, over PyAV.

Times are seconds as stored in the file, whose zero means nothing; `media` counts from the first
picture. A file whose format seeks exactly is entered at the last key frame before the time asked,
and then gives what a decode from its beginning gives; any other is decoded from its beginning.
"""

import collections
import math
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import VideoReformatter

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media.containers import (
    UnreadableMedia,
    duration,
    main_stream,
    packets_from,
    seeks_exactly,
    stream_start,
    times_are_scrambled,
)

cv2.setNumThreads(1)  # a frame is little work: it is the loader that reads many clips at once

_ROUNDING = 6e-4  # seconds: Matroska stores the nearest millisecond
_JUMP = 3e-3  # seconds: a smaller step between two pieces of sound is rounding, not a gap
_RUN_UP = 0.5  # seconds of sound decoded before a window; MP3 and Opus need about 0.1
_AAC_RUN_UP = 3  # frames of it in plain AAC, which overlap by one
_FILTER = 0.02  # seconds of sound around a window, for the resampling filter


class _Shown(NamedTuple):
    begin: float
    end: float
    frame: av.VideoFrame


class Picture:
    """The picture of a file, from a time on.

    Args:
        container: open, used for this alone.
        offset: seconds after the origin; only what is shown from then on can be asked for.

    Attributes:
        origin: when the first picture is shown.
    """

    def __init__(self, container: InputContainer, offset: float = 0.0):
        self._stream = main_stream(container, 'video')
        self._stream.codec_context.thread_count = 1  # as for OpenCV
        self._reformatter = VideoReformatter()
        self._queue = collections.deque()
        if seeks_exactly(container):
            self.origin = stream_start(self._stream)
            self._shown = _pictures(container, self._stream, self.origin + offset)
            self._fetch()
        else:
            self._shown = _pictures(container, self._stream, -math.inf)
            self._fetch()
            self.origin = self._queue[0].begin

    def displayed_size(self) -> tuple[int, int]:
        """Width and height in pixels, after sample aspect ratio and rotation."""
        frame = self._queue[0].frame
        size = round(frame.width * self._pixel_aspect()), frame.height
        return size[::-1] if _quarter_turns(frame) % 2 else size

    def window(self, time: float, spec: ClipSpec) -> tuple[np.ndarray, int]:
        """The frames on screen at `time` + i / spec.frame_rate; call with ascending times.

        Returns:
            uint8 [t, h, w, 3], and how many of the t are real: those of which at least half is
            before the end. The rest repeats the last one.
        """
        video = np.zeros((spec.frames, spec.height, spec.width, 3), np.uint8)
        shown = None
        for i in range(spec.frames):
            last, shown = (
                shown,
                self._on_screen(time + i / spec.frame_rate, for_seconds=0.5 / spec.frame_rate),
            )
            if shown is None:
                video[i:] = video[max(i - 1, 0)]
                return video, i
            video[i] = video[i - 1] if shown is last else self._image(shown.frame, spec)
        return video, spec.frames

    def _on_screen(self, time, for_seconds):
        """The frame on screen at `time`, or None if no picture lasts `for_seconds` from then."""
        while True:
            while len(self._queue) > 1 and self._queue[1].begin <= time + _ROUNDING:
                self._queue.popleft()
            if self._queue[-1].end >= time + for_seconds - _ROUNDING:
                return self._queue[0]
            if not self._fetch():
                return None

    def _fetch(self):
        shown = next(self._shown, None)
        if shown is not None:
            self._queue.append(shown)
        elif not self._queue:
            raise UnreadableMedia('no picture of it decodes')
        return shown is not None

    def _image(self, frame, spec):
        """uint8 [h, w, 3]: the centred part of the displayed picture with the output's aspect."""
        if frame.is_corrupt:
            raise UnreadableMedia('one of its pictures is damaged')
        turns = _quarter_turns(frame)
        height, width = (spec.width, spec.height) if turns % 2 else (spec.height, spec.width)
        aspect = width / height / self._pixel_aspect()  # of the crop, in stored pixels
        crop_width = max(1, round(min(frame.width, frame.height * aspect)))
        crop_height = max(1, round(min(frame.height, frame.width / aspect)))
        top, left = (frame.height - crop_height) // 2, (frame.width - crop_width) // 2
        image = self._reformatter.reformat(frame, format='rgb24', threads=1).to_ndarray()
        image = _resize(image[top : top + crop_height, left : left + crop_width], height, width)
        return np.rot90(image, turns)

    def _pixel_aspect(self):
        return float(self._stream.sample_aspect_ratio or 1)


class Sound:
    """The sound of a file, as the mean of its channels, from a time on.

    Args:
        container: open, used for this alone.
        offset: seconds after the origin; only what is heard from then on can be asked for.
        origin: that of the picture, or None for the first sample.

    Attributes:
        origin: the same, in seconds as stored.
    """

    def __init__(self, container: InputContainer, offset: float = 0.0, origin: float | None = None):
        self._stream = main_stream(container, 'audio')
        self._rate = self._stream.codec_context.sample_rate
        self._queue = collections.deque()  # of (index of the first sample at _rate, samples)
        self.origin = stream_start(self._stream) if origin is None else origin
        self._pieces = _pieces(
            container, self._stream, self._rate, self.origin + offset - _run_up(self._stream)
        )

    def window(self, time: float, spec: ClipSpec) -> np.ndarray:
        """int16 [s] heard from `time` on, zeros where there is none; call with ascending times."""
        first = math.floor((time - _FILTER) * self._rate)
        sound = np.zeros(math.ceil((spec.seconds + 2 * _FILTER) * self._rate), np.float32)
        end = first + len(sound)
        while self._queue and _piece_end(self._queue[0]) <= first:
            self._queue.popleft()
        while not self._queue or _piece_end(self._queue[-1]) < end:
            piece = next(self._pieces, None)
            if piece is None:
                break
            if _piece_end(piece) > first:
                self._queue.append(piece)
        for index, samples in self._queue:
            begin, stop = max(index, first), min(index + len(samples), end)
            if begin < stop:
                sound[begin - first : stop - first] = samples[begin - index : stop - index]
        sound = _resample(sound, self._rate, spec.sample_rate)
        skip = round((time - first / self._rate) * spec.sample_rate)
        sound = np.rint(sound[skip : skip + spec.samples] * 32768)
        return np.clip(sound, -32768, 32767).astype(np.int16)


# Functions and not methods: a generator that knew the object which keeps it would keep it in turn,
# with all that it has decoded, until Python next looks for such circles.


def _pictures(container, stream, time):
    """What is shown, in this order, from `time` or before on."""
    begin, frame = None, None
    counted = times_are_scrambled(container, stream)
    for index, following in enumerate(_frames(container, stream, time)):
        if not counted and following.pts is None:
            raise UnreadableMedia('one of its pictures has no time')
        time = index / stream.average_rate if counted else following.pts * stream.time_base
        if frame is not None:
            yield _Shown(begin, float(time), frame)
        begin, frame = float(time), following
    if frame is not None:
        yield _Shown(begin, begin + duration(stream, frame), frame)


def _frames(container, stream, time):
    for packet, needed in _mark_needed(packets_from(container, stream, time), time):
        stream.codec_context.skip_frame = 'DEFAULT' if needed else 'NONREF'
        yield from packet.decode()


def _pieces(container, stream, rate, time):
    """Pieces of sound: (index of the first sample, float32 samples)."""
    index = None
    for packet in packets_from(container, stream, time):
        for frame in packet.decode():
            if frame.sample_rate != rate:
                raise UnreadableMedia('the sample rate of its sound changes')
            if frame.pts is not None:
                unit = frame.time_base
                heard = round(frame.pts * unit.numerator * rate / unit.denominator)
                if index is None or abs(heard - index) > _JUMP * rate:
                    index = heard
            elif index is None:
                raise UnreadableMedia('its sound has no time')
            yield index, _mono(frame)
            index += frame.samples


def _run_up(stream):
    """Seconds of sound after which it no longer matters where decoding began."""
    context = stream.codec_context
    if context.name == 'aac' and context.profile == 'LC':
        return _AAC_RUN_UP * 1024 / context.sample_rate
    return _RUN_UP


def _piece_end(piece):
    index, samples = piece
    return index + len(samples)


def _mark_needed(packets, time):
    """Pairs each packet with whether it is shown at `time` or later.

    Those not shown must be decoded only where others refer to them.
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


def _quarter_turns(frame):
    """How often the stored picture must be turned left by 90 degrees for display."""
    return round(frame.rotation / 90) % 4


def _resize(image, height, width):
    """Averages along an axis that shrinks below two thirds, and interpolates along any other.

    Down to two thirds, interpolating gives every pixel its weight, comes nearer to a Lanczos filter
    than averaging does, and is five times as fast.
    """
    down, across = (
        cv2.INTER_AREA if 3 * new < 2 * old else cv2.INTER_LINEAR
        for new, old in zip((height, width), image.shape)
    )
    if down != across:  # OpenCV has one way for both axes
        image = cv2.resize(image, (image.shape[1], height), interpolation=down)
    return cv2.resize(image, (width, height), interpolation=across)


def _mono(frame):
    """float32 [s]: the mean of the channels, nominally in [-1, 1]."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples - 128.0) / 128
    elif samples.dtype.kind == 'i':
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if len(samples) == 1:
        return samples[0].astype(np.float32)
    return samples.mean(axis=0, dtype=np.float32)


def _resample(sound, rate, new_rate):
    """float32 [s] at `new_rate`, with the same first instant."""
    if rate == new_rate:
        return sound
    frame = av.AudioFrame.from_ndarray(sound[np.newaxis], format='fltp', layout='mono')
    frame.sample_rate = rate
    resampler = av.AudioResampler(format='fltp', layout='mono', rate=new_rate)
    frames = resampler.resample(frame) + resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])
