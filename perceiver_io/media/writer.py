"""Pictures and sound to MP4 files (H.264 and AAC, through PyAV). The only writer of media files."""

import dataclasses
import fractions
import os
import pathlib
from typing import Self

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

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
    """How x264 compresses the picture. The defaults, ours, are for files to look at.

    Attributes:
        crf: constant rate factor; 0 loses only colour resolution, 51 is worst.
        preset: x264's name of how much time it may take.
        tune: x264's name of what to favour; None for nothing.
        key_interval: frames from one key frame to the next; None for those of a second, which is
            cheap to seek in.
        b_frames: how many frames in a row may refer to later ones; None for the preset's choice.
        threads: 0 for x264's choice, 1 for bytes that do not depend on the machine's cores.
    """

    crf: int = 18
    preset: str = 'veryfast'
    tune: str | None = None
    key_interval: int | None = None
    b_frames: int | None = None
    threads: int = 0


class MediaWriter:
    """Writes an MP4 file piece by piece: `with MediaWriter(path, …) as writer: writer.write(…)`.

    The first frame and the first sample are shown at the same instant, and each stream runs on at
    its own rate. The file gets its name only when everything is in it: until then, and for ever if
    the program dies, it lies beside its target as a hidden `.NAME.PID.part`.

    Args:
        path: the target, which is replaced if it exists. Its folder must exist.
        width: of the frames in pixels, or None for a file without picture.
        height: of the frames in pixels, or None for a file without picture. H.264 needs even sizes:
            an odd one gains a copy of the last column or row.
        frame_rate: frames per second.
        sample_rate: samples per second, or None for a file without sound. One that AAC does not
            know is resampled to the next that it does.
        channels: of the sound, 1 or 2.
        h264: how the picture is compressed.
        audio_bit_rate: bits per second of AAC. 128,000 is ours.

    Raises:
        OSError: the file cannot be created.
        UserError: a setting, or the shape or type of what is written, is not as described.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        width: int | None = None,
        height: int | None = None,
        frame_rate: float | fractions.Fraction = 25,
        sample_rate: int | None = None,
        channels: int = 1,
        h264: H264 = H264(),
        audio_bit_rate: int = 128_000,
    ):
        if (width is None) != (height is None):
            raise UserError(f'{width=} and {height=} must both be set, or neither')
        if width is None and sample_rate is None:
            raise UserError('a file needs picture or sound: set width and height, or sample_rate')
        if channels not in (1, 2):
            raise UserError(f'{channels=} must be 1 or 2')
        self._path = pathlib.Path(path)
        self._temporary = self._path.with_name(f'.{self._path.name}.{os.getpid()}.part')
        self._frame_shape = (height, width, 3)
        self._channels = channels
        self._frames = 0
        self._samples = 0
        self._reformatter = VideoReformatter()  # kept, since setting one up costs more than a frame
        # A Python file, because FFmpeg reads a name such as `a:b.mp4` as protocol and address.
        self._file = open(self._temporary, 'wb')
        try:
            self._container = av.open(self._file, 'w', format='mp4')
            self._video = self._audio = None
            if width is not None:
                self._video = self._add_video(width, height, frame_rate, h264)
            if sample_rate is not None:
                self._sample_rate = sample_rate
                self._audio = self._add_audio(sample_rate, audio_bit_rate)
        except BaseException:
            self._discard()
            raise

    def _add_video(self, width, height, frame_rate, h264):
        rate = fractions.Fraction(frame_rate).limit_denominator(1001)
        # Without mbtree the same frames give the same bytes; on small ones x264 varies otherwise.
        options = {'crf': str(h264.crf), 'preset': h264.preset, 'x264-params': 'mbtree=0'}
        if h264.tune is not None:
            options['tune'] = h264.tune
        if h264.b_frames is not None:
            options['bf'] = str(h264.b_frames)
        stream = self._container.add_stream('libx264', rate=rate, options=options)
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = 'yuv420p'
        stream.gop_size = h264.key_interval or max(1, round(rate))
        stream.codec_context.thread_count = h264.threads
        stream.colorspace, stream.color_range = Colorspace.ITU709, ColorRange.MPEG
        return stream

    def _add_audio(self, sample_rate, bit_rate):
        # AAC knows only these rates; PyAV resamples what is written to the one that is opened.
        rate = next((rate for rate in _AAC_RATES if rate >= sample_rate), _AAC_RATES[-1])
        stream = self._container.add_stream(
            'aac', rate=rate, layout='mono' if self._channels == 1 else 'stereo'
        )
        stream.bit_rate = bit_rate
        stream.options = {'aac_coder': 'fast'}  # faster than the default, and nearer to pure tones
        return stream

    def write(self, video: np.ndarray | None = None, audio: np.ndarray | None = None) -> None:
        """Appends frames and samples; give both about equally far, so that little is held back.

        Args:
            video: uint8 [t, h, w, 3], or None.
            audio: int16 [s, channels], or None.
        """
        if video is not None:
            _check('video', video, self._video, np.uint8, self._frame_shape)
            for image in video:
                self._container.mux(self._video.encode(self._video_frame(image)))
        if audio is not None:
            _check('audio', audio, self._audio, np.int16, (self._channels,))
            if len(audio):
                self._container.mux(self._audio.encode(self._audio_frame(audio)))

    def _video_frame(self, image):
        height, width, _ = image.shape
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(image, format='rgb24'),
            format='yuv420p',
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.time_base = 1 / self._video.codec_context.framerate
        frame.pts = self._frames
        self._frames += 1
        return frame

    def _audio_frame(self, audio):
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

    def __exit__(self, error_type, error, traceback) -> None:
        if error_type is not None:
            self._discard()
            return
        try:
            for stream in (self._video, self._audio):
                if stream is not None:
                    self._container.mux(stream.encode(None))
            self._container.close()
            self._file.close()
            os.replace(self._temporary, self._path)
        except BaseException:
            self._discard()
            raise

    def _discard(self):
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _check(name, array, stream, dtype, shape):
    if stream is None:
        raise UserError(f'this file was opened without {name}: set its sizes and rate')
    if array.dtype != dtype or array.shape[1:] != shape:
        raise UserError(
            f'{name} must be {np.dtype(dtype)} with shape [*, '
            f'{", ".join(map(str, shape))}], not {array.dtype} {list(array.shape)}'
        )


def write_media(
    path: str | os.PathLike,
    video: np.ndarray | None,
    audio: np.ndarray | None,
    *,
    frame_rate: float | fractions.Fraction = 25,
    sample_rate: int | None = None,
) -> None:
    """Writes a whole file at once: see `MediaWriter`.

    Args:
        path: the target, which is replaced if it exists.
        video: uint8 [t, h, w, 3], or None for a file without picture.
        audio: int16 [s, channels], or None for a file without sound.
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
