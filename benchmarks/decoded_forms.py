"""Forms in which `prepare --decoded` could store frames: bytes, PSNR and reading.

    python benchmarks/decoded_forms.py --clips FOLDER

The frames are the centred squares of every media file of the folder, 224 x 224 at 25 frames/s, up
to 8 s of each. A window is 16 of them in a row, without audio, from bytes to an RGB array, on one
core; forms in turn, and the least processor time counts, because other work only adds to it. PSNR
is in RGB, between a window and the frames that were compressed.
"""

import argparse
import io
import itertools
import pathlib
import sys
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure  # noqa: E402
from perceiver_io.core.clip import ClipSpec
from perceiver_io.data import sampling
from perceiver_io.media import reader

SPEC = ClipSpec(audio=False)
SECONDS = 8
WINDOWS = 3  # of each clip

Frames = np.ndarray  # uint8 [t, h, w, 3]


class Form(NamedTuple):
    """How the frames of a clip are stored, and how 16 of them are read."""

    store: Callable[[Frames], bytes | list[bytes]]
    read: Callable[[bytes | list[bytes], int], Frames]


def video(codec: str, *, key_interval: int = 1, full_range: bool = False, **options: str) -> Form:
    """A stream of FFmpeg's in MP4, or in Matroska where MP4 has no such stream."""

    def store(frames: Frames) -> bytes:
        file = io.BytesIO()
        kind = 'matroska' if codec in ('rawvideo', 'libvpx') else 'mp4'
        with av.open(file, 'w', format=kind) as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = 'yuvj420p' if full_range else 'yuv420p'
            stream.gop_size, stream.codec_context.thread_count = key_interval, 1
            colours = ColorRange.JPEG if full_range else ColorRange.MPEG
            stream.colorspace, stream.color_range = Colorspace.ITU709, colours
            for index, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format='rgb24').reformat(
                    format=stream.pix_fmt,
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=colours,
                )
                frame.pts, frame.time_base = index, Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.getvalue()

    def read(stored: bytes, first: int) -> Frames:
        return reader.read_window(stored, first / SPEC.frame_rate, SPEC).video

    return Form(store, read)


def stills(compress: Callable[[Frames], bytes], expand: Callable[[bytes], Frames]) -> Form:
    """Every frame by itself."""
    return Form(
        lambda frames: [compress(image) for image in frames],
        lambda stored, first: np.stack(
            [expand(each) for each in stored[first : first + SPEC.frames]]
        ),
    )


def webp(quality: int) -> Form:
    def compress(image: Frames) -> bytes:
        file = io.BytesIO()
        Image.fromarray(image).save(file, 'webp', quality=quality, method=2)
        return file.getvalue()

    return stills(compress, lambda each: np.asarray(Image.open(io.BytesIO(each)).convert('RGB')))


def jpeg(quality: int) -> Form:
    return stills(
        lambda image: cv2.imencode('.jpg', image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[
            1
        ].tobytes(),
        lambda each: cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR_RGB),
    )


def zstd() -> dict[str, Form]:
    """RGB, each frame compressed by zstd; empty without the package `zstandard`."""
    try:
        import zstandard
    except ImportError:
        print('raw with zstd is left out: pip install zstandard')
        return {}
    compressor, expander = zstandard.ZstdCompressor(1), zstandard.ZstdDecompressor()
    shape = (SPEC.height, SPEC.width, 3)

    def expand(each: bytes) -> Frames:
        return np.frombuffer(expander.decompress(each), np.uint8).reshape(shape)

    return {'raw RGB, zstd': stills(lambda image: compressor.compress(image.tobytes()), expand)}


def mpeg2(quantizer: int, key_interval: int) -> Form:
    limits = {'qmin': str(quantizer), 'qmax': str(quantizer)}
    return video('mpeg2video', key_interval=key_interval, **limits)


X264 = {'crf': '20', 'preset': 'veryfast', 'tune': 'fastdecode', 'bf': '0'}


def forms() -> dict[str, Form]:
    return {
        'H.264 crf 20, key frame every 12': video('libx264', key_interval=12, **X264),
        'H.264 crf 20, key frames only': video('libx264', **X264),
        'MPEG-2 q 2, key frame every 12': mpeg2(2, 12),
        'MPEG-2 q 3, key frame every 12': mpeg2(3, 12),
        'MPEG-2 q 5, key frame every 12': mpeg2(5, 12),
        'MPEG-2 q 3, key frame every 4': mpeg2(3, 4),
        'MPEG-2 q 3, key frames only': mpeg2(3, 1),
        'MJPEG q 3': video('mjpeg', full_range=True, qmin='3', qmax='3'),
        'VP8, key frames only': video(
            'libvpx', crf='8', b='4M', deadline='realtime', **{'cpu-used': '8'}
        ),
        'JPEG 90 (OpenCV)': jpeg(90),
        'WebP 90 (Pillow)': webp(90),
        'raw YUV 4:2:0': video('rawvideo'),
    } | zstd()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clips', required=True, help='folder of media files')
    parser.add_argument('--count', type=int, default=12, help='files that are used, spread evenly')
    parser.add_argument('--runs', type=int, default=5)
    parser.add_argument('--output', default='runs/benchmarks/decoded_forms.json')
    args = parser.parse_args()
    clips = load(sorted(pathlib.Path(args.clips).iterdir()), args.count)
    seconds = sum(map(len, clips)) / SPEC.frame_rate

    stored, rows = {}, []
    chosen = forms()
    for name, form in chosen.items():
        begin = time.process_time()
        stored[name] = [form.store(frames) for frames in clips]
        storing = time.process_time() - begin
        size = sum(len(b''.join(each) if isinstance(each, list) else each) for each in stored[name])
        rows.append(
            {
                'form': name,
                'MB per 10 s': size / seconds / 1e5,
                'PSNR': psnr(form, stored[name], clips),
                'stored s per 10 s': 10 * storing / seconds,
            }
        )
    least = dict.fromkeys(chosen, float('inf'))
    for _, (name, form) in itertools.product(range(args.runs), chosen.items()):
        begin = time.process_time()
        for each, frames in zip(stored[name], clips):
            for first in starts(frames):
                form.read(each, first)
        least[name] = min(least[name], time.process_time() - begin)
    for row in rows:
        row['ms a window'] = 1000 * least[row['form']] / (len(clips) * WINDOWS)
    measure.report(args.output, rows, clips=len(clips))


def load(paths: Sequence[pathlib.Path], count: int) -> list[Frames]:
    """The frames of clips that have a window."""
    clips = []
    for path in paths[:: max(1, len(paths) // count)]:
        try:
            windows = itertools.islice(
                reader.read_windows(path, SPEC, on_short='drop'), int(SECONDS / SPEC.seconds)
            )
            clips.append(np.concatenate([clip.video for clip, _ in windows]))
        except (reader.UnreadableMedia, ValueError) as error:
            print(f'{path.name} is left out: {error}')
    if not clips:
        raise SystemExit('no usable clip: give a folder of media files')
    return clips


def starts(frames: Frames) -> list[int]:
    """The first frames of evenly spread windows."""
    seconds = len(frames) / SPEC.frame_rate
    found = sampling.uniform_starts(seconds, SPEC, WINDOWS)
    return [round(start * SPEC.frame_rate) for start in found]


def psnr(form: Form, stored: Sequence[bytes | list[bytes]], clips: Sequence[Frames]) -> float:
    """Mean over windows, dB."""
    found = []
    for each, frames in zip(stored, clips):
        for first in starts(frames):
            difference = form.read(each, first) - frames[first : first + SPEC.frames].astype(float)
            found.append(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-3)))
    return float(np.mean(found))


if __name__ == '__main__':
    main()
