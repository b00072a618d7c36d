"""What ordinary codecs make of the same windows: x264, x265 and AV1, with Opus, through PyAV."""

import fractions
import io
import os
import pathlib
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.report.content import video_psnr

OPUS_BIT_RATE = 32_000  # bits per second, at every point
LONGEST = 120  # seconds for a codec
# Title, FFmpeg's name, constant rate factors, options.
_CODECS: tuple[tuple[str, str, tuple[int, ...], dict[str, str]], ...] = (
    ('x264 + Opus', 'libx264', (18, 26, 34, 42), {'preset': 'medium'}),
    ('x265 + Opus', 'libx265', (20, 28, 36, 44), {'x265-params': 'log-level=none'}),
    ('AV1 (SVT) + Opus', 'libsvtav1', (25, 38, 50, 60), {'preset': '8'}),
)


class Point(NamedTuple):
    """Windows at one quality.

    Attributes:
        crf: constant rate factor.
        payload: compression on raw bytes, without the container's headers.
        whole: the same with them.
        psnr: of the video in dB, mean over the windows.
    """

    crf: int
    payload: float
    whole: float
    psnr: float


class Codec(NamedTuple):
    """A codec's points, or why it has none."""

    title: str
    points: list[Point]
    reason: str = ''


def raw_bytes(spec: ClipSpec) -> int:
    """Of a window: pixels as three bytes each, samples as two."""
    video = spec.frames * spec.height * spec.width * 3 if spec.video else 0
    return video + (2 * spec.samples if spec.audio else 0)


def measure(windows: Sequence[Clip], spec: ClipSpec) -> list[Codec]:
    """Every codec at four qualities; each window is a file of its own.

    Each codec runs in a process of its own, since encoders can crash at small sizes.
    """
    return [_in_a_process(number, windows, spec) for number in range(len(_CODECS))]


def _in_a_process(number: int, windows: Sequence[Clip], spec: ClipSpec) -> Codec:
    """`_measure` in another process, without what encoders print."""
    root = str(pathlib.Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, [os.environ.get('PYTHONPATH')])]
    module, title = __name__, _CODECS[number][0]
    try:
        done = subprocess.run(
            [sys.executable, '-c', f'import {module}; {module}.answer()'],
            input=pickle.dumps((number, list(windows), spec)),
            capture_output=True,
            env=os.environ | {'PYTHONPATH': os.pathsep.join(paths)},
            timeout=LONGEST,
        )
    except subprocess.TimeoutExpired:
        return Codec(title, [], f'it took longer than {LONGEST} s')
    if done.returncode:
        return Codec(title, [], f'the encoder ended with {done.returncode}')
    return Codec(*pickle.loads(done.stdout))


def answer() -> None:
    """The other process: reads the arguments of `_measure`, and writes its fields."""
    out = os.dup(1)
    os.dup2(2, 1)  # what encoders print must not mix with the answer
    number, windows, spec = pickle.load(sys.stdin.buffer)
    found = pickle.dumps(tuple(_measure(number, windows, spec)))
    with open(out, 'wb') as file:
        file.write(found)


def _measure(number: int, windows: Sequence[Clip], spec: ClipSpec) -> Codec:
    title, codec, factors, options = _CODECS[number]
    raw = raw_bytes(spec)
    points = []
    try:
        for crf in factors:
            coded = [_code(window, spec, codec, {'crf': str(crf)} | options) for window in windows]
            payload, whole, psnr = np.mean(coded, axis=0).tolist()
            points.append(Point(crf, raw / payload, raw / whole, psnr))
    except (av.FFmpegError, ValueError) as error:  # not built in, or a size that it refuses
        return Codec(title, [], f'{error}')
    return Codec(title, points)


def _code(
    window: Clip, spec: ClipSpec, codec: str, options: dict[str, str]
) -> tuple[int, int, float]:
    """Bytes of the streams, bytes of the Matroska file, and the PSNR of the video decoded again."""
    file = io.BytesIO()
    height, width = window.video.shape[1:3]
    with av.open(file, 'w', format='matroska') as container:
        video = container.add_stream(codec, rate=fractions.Fraction(spec.frame_rate))
        assert isinstance(video, VideoStream)
        video.options = dict(options)
        video.height, video.width = height + height % 2, width + width % 2
        video.pix_fmt = 'yuv420p'
        video.codec_context.thread_count = 1
        sound = None
        if window.audio is not None:
            sound = container.add_stream('libopus', rate=48_000, layout='mono')
            sound.bit_rate = OPUS_BIT_RATE
        packets = _video_packets(window, spec, video)
        if sound is not None:
            packets += _sound_packets(window, spec, sound)
        payload = sum(packet.size for packet in packets)
        for packet in packets:
            container.mux(packet)
    file.seek(0)
    with av.open(file, 'r') as coded:
        decoded = [frame.to_ndarray(format='rgb24') for frame in coded.decode(video=0)]
    if len(decoded) != len(window.video):
        raise ValueError(f'{len(decoded)} of {len(window.video)} frames came back')
    restored = np.stack(decoded)[:, :height, :width]
    return payload, len(file.getvalue()), video_psnr(window.video, restored)


def _video_packets(window: Clip, spec: ClipSpec, stream: VideoStream) -> list[av.Packet]:
    packets: list[av.Packet] = []
    for number, image in enumerate(window.video):
        height, width = image.shape[:2]
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
        frame = av.VideoFrame.from_ndarray(image, format='rgb24')
        frame.pts, frame.time_base = number, fractions.Fraction(1, spec.frame_rate)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _sound_packets(window: Clip, spec: ClipSpec, stream: AudioStream) -> list[av.Packet]:
    samples = np.ascontiguousarray(window.audio).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(samples, format='s16', layout='mono')
    frame.sample_rate = spec.sample_rate
    frame.pts, frame.time_base = 0, fractions.Fraction(1, spec.sample_rate)
    return stream.encode(frame) + stream.encode(None)
