"""Makes files whose audio packets have inaccurate times, drift, gaps and overlaps, with PyAV alone.

The signal is noise, so that where it is found in what a reader returns can be measured.
"""

import dataclasses
import fractions
import pathlib

import av
import numpy as np
from helpers.media_files import draw_number

RATE = 44_100
OUTPUT_RATE = 48_000
_PIECE = 1024  # samples in a packet of AAC
_LEAD = 1 / 4  # seconds by which packets are stored early, so that their times may run backwards
_BLOCK = 0.1  # seconds of a measurement
_LAG = 0.06  # seconds searched on both sides


@dataclasses.dataclass(frozen=True)
class Timing:
    """What is wrong with the times of a file.

    Attributes:
        name: of the file, without suffix.
        jitter: seconds, evenly distributed on both sides.
        early: for each packet, one of these seconds is subtracted, at random.
        drift: seconds per second by which the audio's clock is slow.
        steps: (at, by) in seconds: the audio is interrupted at a time, or overlaps if negative.
        suffix: of the container.
        seconds: length of the audio without gaps.
    """

    name: str
    jitter: float = 0.0
    early: tuple[float, ...] = (0.0,)
    drift: float = 0.0
    steps: tuple[tuple[float, float], ...] = ()
    suffix: str = '.mkv'
    seconds: float = 10.0


TIMINGS = (
    Timing('jitter of 1 ms', 0.001),
    Timing('jitter of 3 ms', 0.003),
    Timing('jitter of 10 ms', 0.010),
    Timing('jitter of 10 ms, MP4', 0.010, suffix='.mp4'),
    Timing('jitter of 20 ms', 0.020),
    Timing('jitter of 40 ms', 0.040),
    Timing(
        'three of ten packets 10 or 20 ms early, MP4',
        early=(0,) * 7 + (0.01, 0.01, 0.02),
        suffix='.mp4',
    ),
    Timing('drift of +0.1%', drift=0.001),
    Timing('drift of -0.1%', drift=-0.001),
    Timing('drift of +0.5%', drift=0.005),
    Timing('jitter of 10 ms, drift of +0.1%', 0.010, drift=0.001),
    Timing('jitter of 20 ms, drift of -0.1%', 0.020, drift=-0.001),
    Timing('jitter of 40 ms, drift of +0.1%', 0.040, drift=0.001),
    Timing('gap of 30 ms', steps=((4.0, 0.03),)),
    Timing('gap of 100 ms, MP4', steps=((4.0, 0.1),), suffix='.mp4'),
    Timing('gap of 500 ms', steps=((4.0, 0.5),)),
    Timing('gap of 2 s', steps=((4.0, 2.0),)),
    Timing('overlap of 30 ms', steps=((4.0, -0.03),)),
    Timing('overlap of 200 ms', steps=((4.0, -0.2),)),
    Timing(
        'gaps of 30 and 500 ms, overlap of 100 ms', steps=((2.0, 0.03), (4.0, 0.5), (6.0, -0.1))
    ),
    Timing('jitter of 5 ms, gap of 30 ms', 0.005, steps=((4.0, 0.03),)),
    Timing('jitter of 20 ms, gap of 500 ms', 0.020, steps=((4.0, 0.5),)),
    Timing('jitter of 10 ms, overlap of 200 ms', 0.010, steps=((4.0, -0.2),)),
    Timing('drift of +0.1%, gap of 100 ms', drift=0.001, steps=((4.0, 0.1),)),
)


@dataclasses.dataclass(frozen=True)
class Made:
    """A file, and what is heard in it.

    Attributes:
        path: of the file.
        signal: float64 [s] at OUTPUT_RATE, from the first video frame on; 0 in gaps.
        near_steps: seconds near which the signal may be cut in either of two ways.
        gap_seconds: length of all gaps together.
    """

    path: pathlib.Path
    signal: np.ndarray
    near_steps: tuple[float, ...]
    gap_seconds: float


def make(folder: pathlib.Path, timing: Timing, seed: int = 0) -> Made:
    """Writes the file into the folder."""
    rng = np.random.default_rng(seed)
    count = round(timing.seconds * RATE / _PIECE)
    sound = _noise(rng, count * _PIECE, RATE)
    true_times = np.arange(count + 1) * _PIECE / RATE * (1 + timing.drift)
    for at, by in timing.steps:
        true_times[np.searchsorted(true_times, at) :] += by
    stored = true_times + rng.uniform(-timing.jitter, timing.jitter, len(true_times))
    stored -= rng.choice(timing.early, len(true_times))
    stored[0] = true_times[0]  # so that the file starts at 0

    path = folder / f'{timing.name}{timing.suffix}'
    with av.open(str(path), 'w') as container:
        video = container.add_stream('libx264', rate=25)
        video.width = video.height = 64
        video.pix_fmt = 'yuv420p'
        video.codec_context.max_b_frames = 0
        audio = container.add_stream('aac', rate=RATE, layout='mono')
        audio.bit_rate = 192_000
        packets = []
        for index in range(round((true_times.max() + 0.1) * 25)):
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(draw_number(index)))
            image.pts, image.time_base = index, fractions.Fraction(1, 25)
            packets += video.encode(image)
        packets += video.encode(None)
        for index in range(count):
            piece = sound[index * _PIECE : (index + 1) * _PIECE].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(piece[np.newaxis], format='fltp', layout='mono')
            frame.sample_rate, frame.pts = RATE, index * _PIECE
            frame.time_base = fractions.Fraction(1, RATE)
            packets += audio.encode(frame)
        packets += audio.encode(None)
        # MP4 would begin with the lead; there, times must ascend as they are.
        lead = 0.0 if timing.suffix == '.mp4' else _LEAD
        last = -(10**9)
        for packet in packets:
            if packet.stream is audio:
                # The encoder's first packet precedes time 0; the decoder drops what is in it.
                place = packet.pts // _PIECE
                before = min(place, 0) * _PIECE / RATE
                place = min(max(place, 0), count)
                packet.time_base = fractions.Fraction(1, RATE)
                packet.pts = round((stored[place] + before) * RATE)
                decoded = round((true_times[place] + before - lead) * RATE)
                last = packet.dts = max(last + 1, decoded if lead else packet.pts)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        container.mux(packets)
    return _known(path, timing, sound, true_times)


def _noise(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """float64 [s]: noise between 100 Hz and 1 kHz, never silent for long."""
    spectrum = np.fft.rfft(rng.normal(size=samples))
    frequencies = np.fft.rfftfreq(samples, 1 / rate)
    spectrum[(frequencies < 100) | (frequencies > 1000)] = 0
    noise = np.fft.irfft(spectrum, samples)
    return 0.15 * noise / noise.std()


def _known(path: pathlib.Path, timing: Timing, sound: np.ndarray, true_times: np.ndarray) -> Made:
    end = float(true_times.max())
    signal = np.zeros(round(end * OUTPUT_RATE))
    places = np.arange(len(signal)) / OUTPUT_RATE
    fine = np.arange(len(sound))
    jumps = np.flatnonzero(np.abs(np.diff(true_times) - _PIECE / RATE * (1 + timing.drift)) > 1e-4)
    starts = [0, *(jumps + 1), len(true_times) - 1]
    for begin, stop in zip(starts[:-1], starts[1:]):
        length = (stop - begin) * _PIECE / RATE * (1 + timing.drift)
        heard = (places >= true_times[begin]) & (places < true_times[begin] + length)
        samples = (places[heard] - true_times[begin]) / (1 + timing.drift) * RATE
        signal[heard] = np.interp(samples + begin * _PIECE, fine, sound)
    near = tuple(
        time
        for index in jumps
        for time in (float(true_times[index]) + _PIECE / RATE, float(true_times[index + 1]))
    )
    gaps = sum(max(by, 0.0) for _, by in timing.steps)
    return Made(path, signal, near, gaps)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a reader made of a file.

    Attributes:
        runs: runs of zeros of at least 2 ms.
        zero_seconds: their length together.
        worst_lag: seconds between where the signal is heard and where it belongs, the largest.
    """

    runs: int
    zero_seconds: float
    worst_lag: float


def measure(audio: np.ndarray, made: Made, start: float = 0.0) -> Measured:
    """Compares int16 [s] at OUTPUT_RATE, read from `start` on, with the signal."""
    first = round(start * OUTPUT_RATE)
    expected = made.signal[first : first + len(audio)]
    audio = audio[: len(expected)].astype(float)
    lengths = zero_runs(audio)
    lengths = zero_runs(audio)
    reach, size = round(_LAG * OUTPUT_RATE), round(_BLOCK * OUTPUT_RATE)
    worst = 0.0
    for begin in range(0, len(audio) - size + 1, size // 2):
        middle = start + (begin + size / 2) / OUTPUT_RATE
        is_last = middle > len(made.signal) / OUTPUT_RATE - _BLOCK
        if is_last or any(abs(middle - time) < _BLOCK + 0.02 for time in made.near_steps):
            continue
        block = audio[begin : begin + size]
        around = np.zeros(size + 2 * reach)
        low, high = max(begin - reach, 0), min(begin + size + reach, len(expected))
        around[low - begin + reach : high - begin + reach] = expected[low:high]
        if np.abs(around).max() == 0:
            continue
        spectrum = np.fft.rfft(around) * np.fft.rfft(block, len(around)).conj()
        likeness = np.fft.irfft(spectrum, len(around))[: 2 * reach + 1]
        worst = max(worst, abs(int(likeness.argmax()) - reach) / OUTPUT_RATE)
    return Measured(len(lengths), sum(lengths) / OUTPUT_RATE, worst)


def zero_runs(audio: np.ndarray, least: float = 2e-3) -> list[int]:
    """Lengths in samples of the runs of zeros of at least so many seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], (audio == 0).astype(int), [0]])))
    lengths = edges[1::2] - edges[::2]
    return [int(length) for length in lengths if length >= least * OUTPUT_RATE]
