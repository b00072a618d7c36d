"""Files in which a flash and a tone burst coincide, and where a reader finds the two."""

import bisect
import fractions
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from helpers.media_files import SIZE, burst, burst_centre, make_media

from perceiver_io.core.clip import ClipSpec
from perceiver_io.media.reader import Media, read_window

NTSC = fractions.Fraction(30_000, 1001)

# A variable rate: every frame stays for one to six hundredths of a second.
_UNEVEN = np.random.default_rng(7).integers(1, 7, 90).cumsum()
UNEVEN = [fractions.Fraction(int(n), 100) for n in _UNEVEN - _UNEVEN[0]]
UNEVEN_BASE = fractions.Fraction(1, 100)


def make_flash(
    path: pathlib.Path,
    times: Sequence[fractions.Fraction],
    *,
    sound_at: float = 0.0,
    sample_rate: int = 48_000,
    **settings: Any,
) -> float:
    """Writes a file that is dark before the middle frame and bright from it on, with a burst then.

    Returns:
        When that is, in seconds on the file's timeline.
    """
    flash = len(times) // 2
    images = [
        np.full((SIZE, SIZE, 3), 235 if i >= flash else 20, np.uint8) for i in range(len(times))
    ]
    samples = round((float(times[-1]) - sound_at) * sample_rate)
    sound = burst(float(times[flash]) - sound_at, sample_rate, samples)
    make_media(
        path,
        times,
        images=images,
        sound=sound,
        sound_at=sound_at,
        sample_rate=sample_rate,
        **settings,
    )
    return float(times[flash] - times[0])


def seen_and_heard(path: Media, near: float) -> tuple[float, float]:
    """When the flash is seen and the burst is heard, in seconds on the file's timeline.

    Output frames lie 40 ms apart, but a window may start anywhere: the flash is at the least start
    whose first frame is bright, found to 0.1 ms.
    """
    one = ClipSpec(frames=1, height=8, width=8, audio=False)
    starts = near + np.arange(-0.1, 0.1, 1e-4)
    seen = bisect.bisect_left(
        starts, True, key=lambda start: bool(read_window(path, start, one).video.mean() > 127)
    )
    spec = ClipSpec(frames=8, height=8, width=8)
    start = near - 0.15
    clip = read_window(path, start, spec)
    return starts[seen], start + burst_centre(clip.audio[:, 0])
