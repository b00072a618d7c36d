"""Where in a clip a window starts. All starts are in seconds, and all choices are ours."""

import numpy as np

from perceiver_io.clip import ClipSpec


def fits(seconds: float, spec: ClipSpec) -> bool:
    """Whether `seconds` of picture hold a window; half a frame may lack, as readers repeat it."""
    return seconds > spec.seconds - 0.5 / spec.frame_rate


def random_start(rng: np.random.Generator, seconds: float, spec: ClipSpec) -> float:
    """A start drawn evenly from all that keep the window inside a clip of `seconds`."""
    return float(rng.uniform(0, _latest_start(seconds, spec)))


def centre_start(seconds: float, spec: ClipSpec) -> float:
    """The start of the window in the middle of a clip of `seconds`."""
    return _latest_start(seconds, spec) / 2


def uniform_starts(seconds: float, spec: ClipSpec, windows: int) -> list[float]:
    """Starts of `windows` evenly spaced windows, the first at 0 and the last at the end.

    A single window is the one in the middle. Windows overlap where the clip is short.
    """
    if windows < 1:
        raise ValueError(f'{windows=} must be at least 1')
    if windows == 1:
        return [centre_start(seconds, spec)]
    return np.linspace(0, _latest_start(seconds, spec), windows).tolist()


def _latest_start(seconds: float, spec: ClipSpec) -> float:
    if not fits(seconds, spec):
        raise ValueError(f'a clip of {seconds:.2f} s is shorter than a window of '
                         f'{spec.seconds:.2f} s: leave it out, or set fewer frames')
    return max(0.0, seconds - spec.seconds)
