"""The audio stream of a file as a function of time, over PyAV.

Times are seconds as stored in the file, whose zero has no meaning. A file whose format seeks
exactly is entered shortly before the time that is asked for; any other is decoded from its
beginning.
"""

import collections
import math
from collections.abc import Iterator
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import InputContainer

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media import audio_sync
from perceiver_io.media.audio_sync import Piece
from perceiver_io.media.containers import (
    UnreadableMedia,
    audio_stream,
    packets_from,
    seeks_exactly,
    stream_start,
    unit_of,
)

_RUN_UP = 0.5  # seconds decoded before a window; MP3 and Opus need about 0.1
_AAC_RUN_UP = 3  # frames decoded before a window in plain AAC, whose frames overlap by one
_FILTER = 0.02  # seconds around a window, for the resampling filter

Samples: TypeAlias = npt.NDArray[np.float32]


class AudioReader:
    """The audio of a file as the mean of its channels, from a time on.

    Args:
        container: open, used by this object alone from now on.
        offset: seconds after the origin; only audio from then on can be asked for.
        origin: when the video starts, or None for when the audio does.

    Attributes:
        origin: that time, in seconds as stored.
    """

    def __init__(
        self, container: InputContainer, offset: float = 0.0, origin: float | None = None
    ) -> None:
        self._container = container
        self._stream = audio_stream(container)
        self._rate = self._stream.codec_context.sample_rate
        self.origin = stream_start(self._stream) if origin is None else origin
        self._queue: collections.deque[Piece] = collections.deque()
        begin = self.origin + offset - _run_up(self._stream)
        whole = not seeks_exactly(container) or begin <= stream_start(self._stream)
        self._pieces = self._read_from(begin, whole)

    def _read_from(self, time: float, complete: bool) -> Iterator[Piece]:
        pieces = _audio_pieces(self._container, self._stream, self._rate, time)
        return audio_sync.place(pieces, self._rate, complete)

    def window(self, time: float, spec: ClipSpec) -> np.ndarray:
        """int16 [s] from `time` on, zeros where there is no audio; call with ascending times."""
        first = math.floor((time - _FILTER) * self._rate)
        audio = np.zeros(math.ceil((spec.seconds + 2 * _FILTER) * self._rate), np.float32)
        end = first + len(audio)
        try:
            self._fetch(first, end)
        except audio_sync.HistoryNeededError:
            self._queue.clear()
            begin = time - audio_sync.HISTORY - _run_up(self._stream)
            self._pieces = self._read_from(begin, complete=True)
            self._fetch(first, end)
        for piece in self._queue:
            begin, stop = max(piece.first, first), min(piece.end, end)
            if begin < stop:
                samples = piece.samples[begin - piece.first : stop - piece.first]
                audio[begin - first : stop - first] = samples
        audio = _resample(audio, self._rate, spec.sample_rate)
        skip = round((time - first / self._rate) * spec.sample_rate)
        audio = np.rint(audio[skip : skip + spec.samples] * 32768)
        return np.clip(audio, -32768, 32767).astype(np.int16)

    def _fetch(self, first: int, end: int) -> None:
        """Queues all pieces between two samples, and drops those before."""
        while self._queue and self._queue[0].end <= first:
            self._queue.popleft()
        while not self._queue or self._queue[-1].end < end:
            piece = next(self._pieces, None)
            if piece is None:
                return
            if piece.end > first:
                self._queue.append(piece)


# Functions and not methods: a generator that refers to the object that keeps it forms a cycle, and
# that keeps all decoded frames in memory until Python's garbage collector runs.


def _audio_pieces(
    container: InputContainer, stream: AudioStream, rate: int, time: float
) -> Iterator[Piece]:
    """Decoded pieces from `time` or before on, with their stored times."""
    index = None
    for packet in packets_from(container, stream, time):
        for frame in stream.decode(packet):
            if frame.sample_rate != rate:
                raise UnreadableMedia('the sample rate of its audio changes')
            if frame.pts is not None:
                unit = frame.time_base or unit_of(stream)
                index = round(frame.pts * unit.numerator * rate / unit.denominator)
            elif index is None:
                raise UnreadableMedia('its audio has no time')
            yield Piece(index, _mono(frame))
            index += frame.samples


def _run_up(stream: AudioStream) -> float:
    """Seconds after which the decoded audio no longer depends on where decoding began."""
    context = stream.codec_context
    if context.name == 'flac' or context.name.startswith('pcm_'):
        return _FILTER
    if context.name == 'aac' and context.profile == 'LC':
        return _AAC_RUN_UP * 1024 / context.sample_rate
    return _RUN_UP


def _mono(frame: av.AudioFrame) -> Samples:
    """float32 [s]: the mean of the channels, nominally in [-1, 1]."""
    samples: np.ndarray = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples - 128.0) / 128
    elif samples.dtype.kind == 'i':
        samples = samples / -float(np.iinfo(samples.dtype).min)
    if len(samples) == 1:
        return samples[0].astype(np.float32)
    return samples.mean(axis=0, dtype=np.float32)


def _resample(audio: Samples, rate: int, new_rate: int) -> Samples:
    """float32 [s] at `new_rate`; the first sample is at the same instant."""
    if rate == new_rate:
        return audio
    frame = av.AudioFrame.from_ndarray(audio[np.newaxis], format='fltp', layout='mono')
    frame.sample_rate = rate
    resampler = av.AudioResampler(format='fltp', layout='mono', rate=new_rate)
    frames = resampler.resample(frame) + resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])
