"""Where in a clip windows start, in seconds. The paper does not say how it chooses them.

Starts are multiples of the output's frame period. In a clip of that frame rate, as prepared ones
are, a window then shows each frame when it appears, and not up to a frame later than its audio.
"""

import math

import numpy as np

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError


def fits(seconds: float, spec: ClipSpec) -> bool:
    """Whether a clip is long enough for a window; half a frame may be missing."""
    return seconds > spec.seconds - 0.5 / spec.frame_rate


def random_starts(
    rng: np.random.Generator, seconds: float, spec: ClipSpec, windows: int = 1
) -> list[float]:
    """Starts of `windows` windows, in random order.

    Each is drawn evenly from all starts that keep the window inside a clip of `seconds`; but
    together they are spread: of `windows` equal parts of this range, each has one.
    """
    choices = _latest_frame(seconds, spec) + 1
    # Finer by `windows`, so that the parts are equal also where they divide a frame.
    places = rng.integers(choices, size=windows) + choices * rng.permutation(windows)
    return (places // windows / spec.frame_rate).tolist()


def centre_start(seconds: float, spec: ClipSpec) -> float:
    """The start of the window in the middle of a clip of `seconds`."""
    return _latest_frame(seconds, spec) // 2 / spec.frame_rate


def uniform_starts(seconds: float, spec: ClipSpec, windows: int) -> list[float]:
    """Starts of `windows` evenly spaced windows, the first at 0 and the last at the end.

    A single window is the one in the middle. Windows overlap where the clip is short.
    """
    if windows < 1:
        raise UserError(f'{windows=} must be at least 1')
    if windows == 1:
        return [centre_start(seconds, spec)]
    frames = np.linspace(0, _latest_frame(seconds, spec), windows).round()
    return (frames / spec.frame_rate).tolist()


def _latest_frame(seconds: float, spec: ClipSpec) -> int:
    if not fits(seconds, spec):
        raise UserError(
            f'a clip of {seconds:.2f} s is shorter than a window of '
            f'{spec.seconds:.2f} s: leave it out, or set fewer frames'
        )
    lead = (seconds - spec.seconds) * spec.frame_rate
    return max(0, math.floor(lead + 1e-6))  # also where rounding left it just below a whole number
