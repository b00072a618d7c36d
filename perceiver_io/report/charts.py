"""Line charts, laid out in the units of an SVG; the template draws them."""

import dataclasses
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 68, 12, 12, 40  # as in chart.html


@dataclasses.dataclass(frozen=True)
class Series:
    """Points (x, y) in the units of the data; `line` says whether they are joined."""

    name: str
    points: Sequence[tuple[float, float]]
    line: bool = True


@dataclasses.dataclass(frozen=True)
class Tick:
    """A mark of an axis: its place in the SVG, and its text."""

    place: float
    text: str


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart that is laid out.

    Attributes:
        title, x_title, y_title: in words.
        series: in the units of the SVG.
        values: the same in the units of the data, for the table below the chart.
        x_ticks, y_ticks: of the axes.
    """

    title: str
    x_title: str
    y_title: str
    series: Sequence[Series]
    values: Sequence[Series]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]


def chart(
    title: str, x_title: str, y_title: str, series: Sequence[Series], *, log_x: bool = False
) -> Chart | None:
    """Lays out series; points that are not finite are left out. None if no point is left.

    Args:
        title, x_title, y_title: in words.
        series: in the units of the data; with `log_x` all x must be above 0.
        log_x: whether the horizontal axis is logarithmic.
    """
    series = [
        dataclasses.replace(
            each, points=[point for point in each.points if all(map(math.isfinite, point))]
        )
        for each in series
    ]
    series = [each for each in series if each.points]
    if not series:
        return None

    def across(x: float) -> float:
        return math.log10(x) if log_x else x

    xs = [across(x) for each in series for x, _ in each.points]
    ys = [y for each in series for _, y in each.points]
    x_low, x_high = _padded(min(xs), max(xs), 0.02)
    y_low, y_high = _padded(min(ys), max(ys), 0.08)

    def right(x: float) -> float:
        return round(_LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT), 2)

    def down(y: float) -> float:
        return round(
            HEIGHT - _BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - _BOTTOM - _TOP), 2
        )

    if log_x:
        marks = [
            digit * 10.0**power
            for power in range(math.floor(x_low), math.ceil(x_high) + 1)
            for digit in (1, 2, 5)
        ]
        marks = [mark for mark in marks if x_low <= across(mark) <= x_high]
    else:
        marks = _round_numbers(x_low, x_high)
    return Chart(
        title,
        x_title,
        y_title,
        [
            dataclasses.replace(each, points=[(right(across(x)), down(y)) for x, y in each.points])
            for each in series
        ],
        series,
        [Tick(right(across(mark)), f'{mark:g}') for mark in marks],
        [Tick(down(mark), f'{mark:g}') for mark in _round_numbers(y_low, y_high)],
    )


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    margin = (high - low) * share or max(abs(low) * share, 0.5)
    return low - margin, high + margin


def _round_numbers(low: float, high: float) -> list[float]:
    """About five multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= (high - low) / 5)
    first = math.ceil(low / step)
    return [round(place * step, 10) for place in range(first, math.floor(high / step) + 1)]
