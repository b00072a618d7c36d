"""A log-log plot as SVG, so that the benchmarks need no plotting library."""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, MARGIN = 560, 360, 60
COLOURS = ('#1b6ca8', '#c8553d', '#4f8a5b', '#7a5195')


def log_log_plot(path: str | os.PathLike, title: str,
                 series: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Writes lines through positive points (x, y), with a legend.

    Each series is drawn over its own x divided by its smallest, so that series of different
    quantities start at the same place and can be compared by slope.
    """
    points = {name: [(math.log2(x / min(x for x, _ in line)), math.log2(y)) for x, y in line]
              for name, line in series.items()}
    right = max(x for line in points.values() for x, _ in line)
    low = math.floor(min(y for line in points.values() for _, y in line))
    high = math.ceil(max(y for line in points.values() for _, y in line))

    def place(x: float, y: float) -> tuple[float, float]:
        return (MARGIN + x / max(right, 1) * (WIDTH - 2 * MARGIN),
                HEIGHT - MARGIN - (y - low) / max(high - low, 1) * (HEIGHT - 2 * MARGIN))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{MARGIN}" y="24" font-size="15">{title}</text>',
             f'<text x="{WIDTH - MARGIN}" y="{HEIGHT - 16}" text-anchor="end">'
             'size over the smallest</text>']
    for power in range(math.floor(right) + 1):
        x, y = place(power, low)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{2**power}x</text>')
    for power in range(low, high + 1):
        x, y = place(0, power)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - MARGIN}" y2="{y:.1f}" '
                     'stroke="#dddddd"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{2.0**power:.4g}</text>')
    for index, (name, line) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        corners = [place(*point) for point in line]
        path_points = ' '.join(f'{x:.1f},{y:.1f}' for x, y in corners)
        parts.append(f'<polyline points="{path_points}" fill="none" stroke="{colour}" '
                     'stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in corners]
        parts.append(f'<text x="{MARGIN + 12}" y="{MARGIN + 16 * index}" fill="{colour}">'
                     f'{name}</text>')
    pathlib.Path(path).write_text('\n'.join([*parts, '</svg>']) + '\n')
