"""Video and audio to MP4 files through PyAV, by default H.264 and AAC. The only media writer."""

import contextlib
import dataclasses
import fractions
import os
import pathlib
import types
from typing import Self, TypeVar, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from perceiver_io.core import files
from perceiver_io.core.errors import UserError

_AAC_RATES = (
    8_000,
    11_025,
    12_000,
    16_000,
    22_050,
    24_000,
    32_000,
    44_100,
    48_000,
    64_000,
    88_200,
    96_000,
)  # Hz


@dataclasses.dataclass(frozen=True)
class H264:
    """How x264 compresses the video. The defaults are for files to look at.

    Attributes:
        crf: constant rate factor, 0 to 51; 0 loses only colour resolution, 51 is the worst.
        preset: name of an x264 preset, which trades time for size.
        tune: name of an x264 tuning; None for none.
        key_interval: frames from one key frame to the next; None for a second, which makes seeking
            cheap.
        b_frames: how many frames in a row may refer to later ones; None for the preset's choice.
        threads: 0 for x264's choice, 1 for bytes that do not depend on the number of cores.
    """

    crf: int = 18
    preset: str = 'veryfast'
    tune: str | None = None
    key_interval: int | None = None
    b_frames: int | None = None
    threads: int = 0


@dataclasses.dataclass(frozen=True)
class Mpeg2:
    """How FFmpeg compresses the video as MPEG-2, which takes less time to decode than H.264.

    Attributes:
        quantizer: of all frames, 1 to 31; 1 is the best.
        key_interval: frames from one key frame to the next; no frame refers to a later one.
    """

    quantizer: int = 2
    key_interval: int = 12


class MediaWriter:
    """Writes an MP4 file piece by piece: `with MediaWriter(path, …) as writer: writer.write(…)`.

    Both streams start at the same instant, and each continues at its own rate. The file gets its
    name when it is complete. Until then it is beside its target as `.NAME.*.part`, where it stays
    if the program is killed.

    Args:
        path: the target, which is replaced if it exists. Its folder must exist.
        width: of the frames in pixels, or None for a file without video.
        height: of the frames in pixels, or None for a file without video. H.264 needs even sizes:
            an odd one is padded by a copy of the last column or row.
        frame_rate: frames per second.
        sample_rate: samples per second, or None for a file without audio. A rate that AAC does not
            have is resampled to the next higher one that it has.
        channels: of the audio, 1 or 2.
        codec: how the video is compressed.
        audio_bit_rate: bits per second of AAC; None for FLAC, which keeps the samples as they are.

    Raises:
        OSError: the file cannot be created.
        UserError: a setting, or the shape or type of what is written, is not as described.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        width: int | None = None,
        height: int | None = None,
        frame_rate: float | fractions.Fraction = 25,
        sample_rate: int | None = None,
        channels: int = 1,
        codec: H264 | Mpeg2 = H264(),
        audio_bit_rate: int | None = 128_000,
    ) -> None:
        if (width is None) != (height is None):
            raise UserError(f'{width=} and {height=} must both be set, or neither')
        if width is None and sample_rate is None:
            raise UserError('a file needs video or audio: set width and height, or sample_rate')
        if channels not in (1, 2):
            raise UserError(f'{channels=} must be 1 or 2')
        self._frame_shape = (height, width, 3)
        self._channels = channels
        self._frames = 0
        self._samples = 0
        self._reformatter = VideoReformatter()  # kept, since setting one up costs more than a frame
        self._video: VideoStream | None = None
        self._audio: AudioStream | None = None
        with contextlib.ExitStack() as stack:
            partial = stack.enter_context(files.written_whole(pathlib.Path(path)))
            # A Python file, because FFmpeg takes a name such as `a:b.mp4` for an address.
            file = stack.enter_context(open(partial, 'wb'))
            self._container = av.open(file, 'w', format='mp4')
            if width is not None and height is not None:
                self._video = self._add_video(width, height, frame_rate, codec)
            if sample_rate is not None:
                self._sample_rate = sample_rate
                self._audio = self._add_audio(sample_rate, audio_bit_rate)
            self._stack = stack.pop_all()

    def _add_video(
        self,
        width: int,
        height: int,
        frame_rate: float | fractions.Fraction,
        codec: H264 | Mpeg2,
    ) -> VideoStream:
        self._frame_rate = rate = fractions.Fraction(frame_rate).limit_denominator(1001)
        if isinstance(codec, Mpeg2):
            encoder, options, threads = 'mpeg2video', _mpeg2_options(codec), 1
        else:
            encoder, options, threads = 'libx264', _x264_options(codec), codec.threads
        stream = cast(VideoStream, self._container.add_stream(encoder, rate=rate, options=options))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = 'yuv420p'
        stream.gop_size = codec.key_interval or max(1, round(rate))
        stream.codec_context.thread_count = threads
        stream.colorspace, stream.color_range = Colorspace.ITU709, ColorRange.MPEG
        return stream

    def _add_audio(self, sample_rate: int, bit_rate: int | None) -> AudioStream:
        layout = 'mono' if self._channels == 1 else 'stereo'
        if bit_rate is None:
            return self._container.add_stream('flac', rate=sample_rate, layout=layout)
        # AAC knows only these rates; PyAV resamples what is written to the one that is opened.
        rate = next((rate for rate in _AAC_RATES if rate >= sample_rate), _AAC_RATES[-1])
        stream = self._container.add_stream('aac', rate=rate, layout=layout)
        stream.bit_rate = bit_rate
        stream.options = {'aac_coder': 'fast'}  # faster than the default, and nearer to pure tones
        return stream

    def write(self, video: np.ndarray | None = None, audio: np.ndarray | None = None) -> None:
        """Appends frames and samples; both should cover about the same time, to keep memory low.

        Args:
            video: uint8 [t, h, w, 3], or None.
            audio: int16 [s, channels], or None.
        """
        if video is not None:
            stream = _check('video', video, self._video, np.uint8, self._frame_shape)
            for image in video:
                self._container.mux(stream.encode(self._video_frame(image)))
        if audio is not None:
            sound = _check('audio', audio, self._audio, np.int16, (self._channels,))
            if len(audio):
                self._container.mux(sound.encode(self._audio_frame(audio)))

    def _video_frame(self, image: np.ndarray) -> av.VideoFrame:
        height, width, _ = image.shape
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format='rgb24'),
            format='yuv420p',
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.time_base = 1 / self._frame_rate
        frame.pts = self._frames
        self._frames += 1
        return frame

    def _audio_frame(self, audio: np.ndarray) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(audio).reshape(1, -1),
            format='s16',
            layout='mono' if self._channels == 1 else 'stereo',
        )
        frame.sample_rate = self._sample_rate
        frame.time_base = fractions.Fraction(1, self._sample_rate)
        frame.pts = self._samples
        self._samples += len(audio)
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        if error is not None:
            self._stack.__exit__(error_type, error, traceback)
            return
        with self._stack:
            for stream in (self._video, self._audio):
                if stream is not None:
                    self._container.mux(stream.encode(None))
            self._container.close()


def _mpeg2_options(codec: Mpeg2) -> dict[str, str]:
    quantizer = str(codec.quantizer)
    # Without low_delay, decoders wait for frames that refer to later ones.
    return {'qmin': quantizer, 'qmax': quantizer, 'bf': '0', 'flags': '+low_delay'}


def _x264_options(codec: H264) -> dict[str, str]:
    # With mbtree, x264 may compress the same small frames to other bytes each time.
    options = {'crf': str(codec.crf), 'preset': codec.preset, 'x264-params': 'mbtree=0'}
    if codec.tune is not None:
        options['tune'] = codec.tune
    if codec.b_frames is not None:
        options['bf'] = str(codec.b_frames)
    return options


_Stream = TypeVar('_Stream', VideoStream, AudioStream)


def _check(
    name: str,
    array: np.ndarray,
    stream: _Stream | None,
    dtype: type[np.generic],
    shape: tuple[int | None, ...],
) -> _Stream:
    """The stream, where it takes the array; UserError otherwise."""
    if stream is None:
        raise UserError(f'this file was opened without {name}: set its sizes and rate')
    if array.dtype != dtype or array.shape[1:] != shape:
        raise UserError(
            f'{name} must be {np.dtype(dtype)} with shape [*, '
            f'{", ".join(map(str, shape))}], not {array.dtype} {list(array.shape)}'
        )
    return stream


def write_media(
    path: str | os.PathLike[str],
    video: np.ndarray | None,
    audio: np.ndarray | None,
    *,
    frame_rate: float | fractions.Fraction = 25,
    sample_rate: int | None = None,
) -> None:
    """Writes a whole file at once: see `MediaWriter`.

    Args:
        path: the target, which is replaced if it exists.
        video: uint8 [t, h, w, 3], or None for a file without video.
        audio: int16 [s, channels], or None for a file without audio.
        frame_rate: frames per second.
        sample_rate: samples per second; needed with `audio`.
    """
    height, width = (None, None) if video is None else video.shape[1:3]
    channels = 1 if audio is None else audio.shape[1]
    if audio is not None and sample_rate is None:
        raise UserError('audio needs its sample_rate: set it')
    with MediaWriter(
        path,
        width=width,
        height=height,
        frame_rate=frame_rate,
        sample_rate=None if audio is None else sample_rate,
        channels=channels,
    ) as writer:
        writer.write(video, audio)
