"""Bootstrap intervals: how much a result depends on which clips were evaluated."""

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


def resampled_weights(clips: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yields, for each resample, how often each clip was drawn: int [clips].

    As many clips as there are, drawn with replacement. The same seed gives the same draws, so that
    the intervals of two metrics, or of two models on the same clips, come from the same resamples.
    """
    rng = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        yield np.bincount(rng.integers(clips, size=clips), minlength=clips)


def interval(results: np.ndarray) -> tuple[float, float]:
    """The 95% percentile interval of the results of the resamples, [r]."""
    low, high = np.percentile(results, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)
