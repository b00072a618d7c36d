"""When each decoded piece of an audio stream is heard: the rule of audio sync.

A container stores a time for every packet, and the packets also have a length. Where the two
disagree, either the times are inaccurate (the recorder noted when a packet arrived, the muxer
rounded) or audio is missing, doubled, or recorded by a clock that runs fast or slow. Players decide
between these by size and persistence: FFmpeg's `aresample=async` stretches small differences and
inserts silence or cuts above `min_hard_comp` (0.1 s); GStreamer's sinks wait until a difference has
lasted a second; ffplay averages over 20 packets. A file can be read ahead, so here the times of
both sides decide:

1. Pieces follow each other without a gap as long as each stored time is within 3 ms of this.
2. A larger step of the times is real if the median over the second after it differs from the
   median over the second before it, by more than 3 ms and by more than the times scatter. Silence
   then fills a gap, and an overlap is cut.
3. Any other difference is an inaccurate time. The pieces still follow each other, and are moved
   along the line through the times of 10 s before and after, between real steps; times far from
   the line do not count. Where the line drifts, pieces are stretched by at most 1%.
4. A drift that this cannot follow is corrected by a step once it amounts to 10 ms.

The first piece, and the first after a real step, is heard at its stored time if the times of the
next second agree with it, and otherwise where the line says.

Times are counted in samples of the stream's own rate.
"""

import collections
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

TOLERANCE = 3e-3  # seconds between a stored time and the sample count that need no explanation
HISTORY = 10.0  # seconds of times on each side that decide where a piece belongs
_SETTLED = 1.0  # seconds on each side of a step that decide whether it is real
_GLANCE = 0.25  # seconds of times that the first piece is compared with, before any is suspected
_BATCH = 1.0  # seconds of pieces that are placed after one look at the times
_STRETCH = 0.01  # of a piece's length, at most
_TOO_FAR = 10e-3  # seconds behind the line from which stretching is given up


class HistoryNeededError(Exception):
    """The times before the first piece are needed to place the pieces."""


class Piece(NamedTuple):
    """Decoded samples and the index of the first one, counted from time 0."""

    first: int
    samples: np.ndarray  # float32 [s]

    @property
    def end(self) -> int:
        return self.first + len(self.samples)


def place(pieces: Iterable[Piece], rate: int, complete: bool) -> Iterator[Piece]:
    """Moves pieces from their stored times to where they are heard; see the rule above.

    Args:
        pieces: in the order of decoding, `first` as stored.
        rate: samples per second.
        complete: whether the pieces begin at the start of the stream, or `HISTORY` before the first
            that is used.

    Raises:
        HistoryNeededError: not `complete`, and the stored times must be explained. Pieces that were
            yielded before stay right.
    """
    source = iter(pieces)
    ahead: collections.deque[tuple[int, Piece]] = collections.deque()  # (count before it, piece)
    past: collections.deque[tuple[int, int]] = collections.deque()  # (count before it, offset)
    plan: collections.deque[tuple[float, bool]] = collections.deque()  # (offset, is a step)
    count = 0
    offset: int | None = None  # from the count of samples to the index that is heard

    def look_ahead(seconds: float) -> None:
        nonlocal count
        while not ahead or count - ahead[0][0] < seconds * rate:
            piece = next(source, None)
            if piece is None:
                return
            ahead.append((count, piece))
            count += len(piece.samples)

    while True:
        look_ahead(0 if offset is not None else _GLANCE)
        if not ahead:
            return
        start, piece = ahead[0]
        stored = piece.first - start
        if not plan:
            near = [each.first - begin for begin, each in ahead] if offset is None else [offset]
            if max(abs(stored - other) for other in near) > TOLERANCE * rate:
                if not complete:
                    raise HistoryNeededError
                look_ahead(HISTORY + _BATCH)
                known = [*past, *((begin, each.first - begin) for begin, each in ahead)]
                plan.extend(_explain(np.array(known, float), len(past), rate))
        ahead.popleft()
        past.append((start, stored))
        while start - past[0][0] > HISTORY * rate:
            past.popleft()

        stretched = 0
        if plan:
            target, is_step = plan.popleft()
            if offset is None or is_step or abs(target - offset) > _TOO_FAR * rate:
                offset = round(target)
            else:
                most = int(_STRETCH * len(piece.samples))
                stretched = min(max(round(target) - offset, -most), most)
        elif offset is None:
            offset = stored
        yield Piece(start + offset, _stretch(piece.samples, len(piece.samples) + stretched))
        offset += stretched


def _explain(known: np.ndarray, first: int, rate: int) -> list[tuple[float, bool]]:
    """What the stored times say of the pieces from `first` on, for `_BATCH` seconds.

    Args:
        known: [n, 2], for each piece the count of samples before it, and its stored time minus it.
        first: index of the first piece that is asked for.
        rate: samples per second.

    Returns:
        For each piece its offset, and whether a real step precedes it.
    """
    counts, offsets = known.T
    last = int(np.searchsorted(counts, counts[first] + _BATCH * rate))
    steps = _real_steps(counts, offsets, rate)
    begins = [0, *steps, len(counts)]
    plan: list[tuple[float, bool]] = []
    for begin, end in zip(begins[:-1], begins[1:]):
        wanted = slice(max(begin, first), min(end, last))
        if wanted.start >= wanted.stop:
            continue
        low, high = counts[first] - HISTORY * rate, counts[wanted.stop - 1] + HISTORY * rate
        used = slice(*np.searchsorted(counts, [low, high], side='left'))
        used = slice(max(used.start, begin), min(used.stop, end))
        line = _fit_line(counts[used], offsets[used], rate)
        targets = line(counts[wanted])
        settled = begin + np.searchsorted(counts[begin:end], counts[begin] + _SETTLED * rate)
        if wanted.start == begin:
            difference = np.abs(offsets[begin : max(settled, begin + 1)] - offsets[begin])
            if difference.max() <= TOLERANCE * rate:
                targets[0] = offsets[begin]
        is_first = np.arange(wanted.start, wanted.stop) == begin
        plan += zip(targets.tolist(), (is_first & (begin > 0)).tolist())
    return plan


def _real_steps(counts: np.ndarray, offsets: np.ndarray, rate: int) -> list[int]:
    """Indices of the pieces that a real gap or overlap precedes, ascending."""
    steps = np.diff(offsets)
    candidates = np.flatnonzero(np.abs(steps) > TOLERANCE * rate) + 1
    if not len(candidates):
        return []
    size = max(5, round(_SETTLED * rate / max(1.0, float(np.median(np.diff(counts))))))
    level = offsets - _slope(counts, offsets, size) * counts
    padded = np.pad(level, size, mode='edge')
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    before, after = windows[candidates], windows[candidates + size]
    rise = np.median(after, axis=1) - np.median(before, axis=1)

    # The scatter of the times, as the standard deviation of one: steps that few pieces make, as
    # gaps do, are not in it. 2.35 and 2 below hold for evenly and for normally distributed times.
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(np.abs(np.diff(level)), size, mode='constant'), 2 * size - 1
    )
    others = around[candidates].copy()  # piece i follows difference i - 1, in the middle
    others[:, size - 1] = 0
    scatter = np.quantile(others, 0.9, axis=1) / 2.35
    shown = np.minimum(np.minimum(candidates, len(offsets) - candidates), size)
    bound = np.maximum(TOLERANCE * rate, 2 * scatter * np.sqrt(size / shown))
    own = steps[candidates - 1] * np.sign(rise)
    is_large = own > np.maximum(TOLERANCE * rate, np.minimum(np.abs(rise) / 2, 3 * scatter))
    is_real = (np.abs(rise) > bound) & is_large

    chosen: list[int] = []
    order = np.flatnonzero(is_real)
    for row in order[np.argsort(-np.abs(rise[order]), kind='stable')]:
        index = int(candidates[row])
        is_clear = scatter[row] < TOLERANCE * rate / 6
        if is_clear or all(abs(index - other) > size // 2 for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def _slope(counts: np.ndarray, offsets: np.ndarray, lag: int) -> float:
    """The drift that most of the times agree on, in samples per sample, as far as it is followed.

    The median over pairs of pieces about a second apart, of which a gap is between few.
    """
    lag = min(lag, len(counts) // 2)
    if lag < 1:
        return 0.0
    rise, run = offsets[lag:] - offsets[:-lag], counts[lag:] - counts[:-lag]
    return float(np.clip(np.median(rise / np.maximum(run, 1)), -_STRETCH, _STRETCH))


class _Line(NamedTuple):
    centre: float
    level: float
    slope: float

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        return self.level + self.slope * (counts - self.centre)


def _fit_line(counts: np.ndarray, offsets: np.ndarray, rate: int) -> _Line:
    """The line through most of the times: least squares over those near the median line.

    A slope that may well be chance is reduced, to 0 below 2.5 standard errors.
    """
    lag = max(1, round(len(counts) / 4))
    centre, slope = float(counts.mean()), _slope(counts, offsets, lag)
    line = _Line(centre, float(np.median(offsets - slope * (counts - centre))), slope)
    for _ in range(3):
        residuals = offsets - line(counts)
        near = np.abs(residuals - np.median(residuals)) <= max(
            3.5 * 1.4826 * float(np.median(np.abs(residuals))), 1e-3 * rate
        )
        x, y = counts[near], offsets[near]
        centre, level = float(x.mean()), float(y.mean())
        spread = float(np.square(x - centre).sum())
        if len(x) < 4 or not spread:
            return _Line(centre, float(np.median(y)), 0.0)
        slope = float(((x - centre) * (y - level)).sum()) / spread
        error = float(np.square(y - level - slope * (x - centre)).sum()) / (len(x) - 2) / spread
        if slope:
            slope *= max(0.0, 1 - 2.5**2 * error / slope**2)
        line = _Line(centre, level, slope)
    return line


def _stretch(samples: np.ndarray, length: int) -> np.ndarray:
    """The samples, interpolated to another number of them."""
    if length == len(samples):
        return samples
    places = np.arange(length) * (len(samples) / length)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
