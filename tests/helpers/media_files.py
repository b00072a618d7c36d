"""Makes media files of many kinds for tests, with PyAV alone: the project's writer makes one kind.

The video shows the number of its frame in binary, in eight upright bars (black 0, white 1, the
lowest bit leftmost); the audio is silent but for one short tone burst.
"""

import fractions
import math
import pathlib
from collections.abc import Sequence

import av
import numpy as np

SIZE = 64
BITS = 8


def frame_times(rate: float | fractions.Fraction, seconds: float) -> list[fractions.Fraction]:
    """Times of the frames of a constant rate."""
    rate = fractions.Fraction(rate)
    return [i / rate for i in range(math.floor(seconds * rate))]


def draw_number(number: int) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3] that `read_number` reads."""
    bits = (number >> np.arange(BITS)) & 1
    return np.broadcast_to(
        np.repeat(bits * 255, SIZE // BITS).astype(np.uint8)[:, np.newaxis], (SIZE, SIZE, 3)
    )


def read_number(image: np.ndarray) -> int:
    """The number in a frame of any size, [h, w, 3]."""
    bars = image.mean((0, 2)).reshape(BITS, -1).mean(1)
    return int(((bars > 127) << np.arange(BITS)).sum())


def burst(at: float, sample_rate: int, samples: int) -> np.ndarray:
    """float64 [s]: silence with a tone burst of some milliseconds, its centre at `at` seconds."""
    time = np.arange(samples) / sample_rate - at
    return 0.8 * np.exp(-0.5 * (time / 0.002) ** 2) * np.cos(2 * np.pi * 700 * time)


def burst_centre(sound: np.ndarray, sample_rate: int = 48_000) -> float:
    """Seconds from the start of `sound`, [s], to the centre of the burst in it."""
    power = sound.astype(np.float64) ** 2
    return float((power * np.arange(len(sound))).sum() / power.sum() / sample_rate)


def make_media(
    path: pathlib.Path,
    times: Sequence[fractions.Fraction] | None = None,
    *,
    images: Sequence[np.ndarray] | None = None,
    video_codec: str = 'libx264',
    key_interval: int = 12,
    time_base: fractions.Fraction | None = None,
    pixel_aspect: fractions.Fraction | None = None,
    rotation: int = 0,
    sound: np.ndarray | None = None,
    sample_rate: int = 48_000,
    audio_codec: str = 'aac',
    sound_at: float = 0.0,
) -> pathlib.Path:
    """Writes a file and returns its path.

    Args:
        path: whose suffix says the container.
        times: when each frame is shown; None for no video.
        images: uint8 [h, w, 3] each; numbered ones by default.
        video_codec: FFmpeg's name of an encoder.
        key_interval: frames from one key frame to the next.
        time_base: of the video; from constant `times` by default.
        pixel_aspect: width by height of a pixel.
        rotation: degrees to the left by which a player turns the video.
        sound: floats [s] or [channels, s], as stored; None for no audio.
        sample_rate: samples per second.
        audio_codec: FFmpeg's name of an encoder.
        sound_at: when the first sample is heard.
    """
    with av.open(str(path), 'w') as container:
        video = audio = None
        if times is not None:
            images = images or [draw_number(i) for i in range(len(times))]
            time_base = time_base or (times[1] - times[0])
            video = container.add_stream(video_codec, rate=1 / time_base)
            video.height, video.width = images[0].shape[:2]
            video.pix_fmt = 'yuv420p'
            video.gop_size = key_interval
            video.bit_rate = 1_000_000
            video.codec_context.time_base = time_base
            video.codec_context.max_b_frames = 0 if video_codec == 'msmpeg4' else 2
            if pixel_aspect:
                video.codec_context.sample_aspect_ratio = pixel_aspect
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            sound = np.atleast_2d(sound)
            layout = {1: 'mono', 2: 'stereo', 6: '5.1'}[len(sound)]
            audio = container.add_stream(audio_codec, rate=sample_rate, layout=layout)
        # Audio a second ahead of the video, in turns, so that the muxer need not hold much back.
        heard = 0
        for index, time in enumerate(times or []):
            if audio:
                until = min(sound.shape[1], math.ceil((float(time) + 1) * sample_rate))
                _encode_sound(container, audio, sound[:, heard:until], heard, sound_at)
                heard = until
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(images[index]), format='rgb24')
            frame.time_base = time_base
            frame.pts = round(time / time_base)
            container.mux(video.encode(frame))
        if audio:
            _encode_sound(container, audio, sound[:, heard:], heard, sound_at)
            container.mux(audio.encode(None))
        if video:
            container.mux(video.encode(None))
    return path


def _encode_sound(container, stream, sound, index, sound_at):
    if not sound.shape[1]:
        return
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound, np.float32), format='fltp', layout=stream.layout.name
    )
    frame.sample_rate = stream.rate
    frame.time_base = fractions.Fraction(1, stream.rate)
    frame.pts = index + round(sound_at * stream.rate)
    container.mux(stream.encode(frame))


def cut_head(source: pathlib.Path, path: pathlib.Path, seconds: float) -> pathlib.Path:
    """A copy that an edit list tells to begin at `seconds`, wherever the key frames are."""
    with av.open(str(source)) as before, av.open(str(path), 'w') as after:
        copies = {stream.index: after.add_stream_from_template(stream) for stream in before.streams}
        for packet in before.demux():
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copies[packet.stream_index]
                after.mux(packet)
    return path
