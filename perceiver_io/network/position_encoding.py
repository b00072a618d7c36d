"""Fourier position encodings, as one small table for each axis.

The code of a grid point is the concatenation of a function of t, one of y and one of x. It is kept
as one table for each axis (16 + 56 + 56 rows for the video tokens of the released model) and joined
only where a dense array is needed. All tables are computed here, in numpy, so that training and
inference use the same numbers on every device.

Rounding is part of the model. The highest audio band is sin(pi * 15360 * x): rounding its argument
to float32 changes the feature by up to 1e-2, and the released weights were trained and evaluated
with rounded arguments. The argument is therefore rounded step by step as in the implementation that
the weights come from: as XLA compiles the original's expression (a division by a constant becomes a
product with its reciprocal), or as PyTorch computes that of the transformers library. Only the sine
and cosine of the rounded argument are computed in float64.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from perceiver_io.core.errors import UserError

# The original has two grids over [-1, 1]. LINSPACE includes both ends: inputs, and queries that are
# decoded undivided. SUBSAMPLED is -1 + 2 i / n: queries by index, as in all of training and in the
# released reconstruction, which runs in chunks.
Grid = Literal['linspace', 'subsampled']
LINSPACE: Final = 'linspace'
SUBSAMPLED: Final = 'subsampled'

# The implementation whose float32 rounding is reproduced: the original code, or the transformers
# library.
Rounding = Literal['xla', 'torch']
XLA: Final = 'xla'
TORCH: Final = 'torch'


def grid(kind: Grid, size: int, rounding: Rounding = XLA) -> np.ndarray:
    """Positions of `size` points in [-1, 1], float32 [size]; `kind` is LINSPACE or SUBSAMPLED."""
    if kind == LINSPACE:
        return LINSPACES[rounding](-1.0, 1.0, size)
    if kind == SUBSAMPLED:
        twice, count = 2 * np.arange(size, dtype=np.float32), np.float32(size)
        return np.float32(-1) + (twice / count if rounding == TORCH else twice * (1 / count))
    raise UserError(f'grid {kind!r} is unknown: use {LINSPACE!r} or {SUBSAMPLED!r}')


@functools.lru_cache(maxsize=64)
def fourier_table(
    kind: Grid, size: int, bands: int, max_resolution: int, rounding: Rounding = XLA
) -> np.ndarray:
    """The code of every point of one axis, float32 [size, 1 + 2 * bands].

    Columns: the position, then sin(pi f x) for every band f, then cos(pi f x). Bands are linear
    from 1 to max_resolution / 2. (Original code, `generate_fourier_features`.)
    """
    position = grid(kind, size, rounding)
    frequency = LINSPACES[rounding](1.0, max_resolution / 2, bands)
    angle = np.float32(np.pi) * (position[:, None] * frequency)  # rounded twice, as in the original
    angle = angle.astype(np.float64)
    table = np.concatenate([position[:, None], np.sin(angle), np.cos(angle)], axis=1)
    table = table.astype(np.float32)
    table.setflags(write=False)  # cached: shared by all callers
    return table


def _xla_linspace(start: float, stop: float, size: int) -> np.ndarray:
    """`jnp.linspace` as XLA folds it to a constant, to the last bit."""
    if size == 1:
        return np.array([start], np.float32)
    index = np.arange(size - 1, dtype=np.float32)
    step = np.float32(1) / np.float32(size - 1)
    first, last = np.float32(start), np.float32(stop)
    points = first * (1 - index * step) + index * (last * step)
    return np.append(points, last)


def _torch_linspace(start: float, stop: float, size: int) -> np.ndarray:
    """`torch.linspace` on a CPU, to the last bit: from both ends, by fused multiply-adds."""
    if size == 1:
        return np.array([start], np.float32)
    step = np.float64((np.float32(stop) - np.float32(start)) / np.float32(size - 1))
    index = np.arange(size)  # a product of two float32 is exact in float64, and rounded once
    points = np.where(index < size // 2, start + step * index, stop - step * (size - 1 - index))
    return points.astype(np.float32)


LINSPACES: dict[Rounding, Callable[[float, float, int], np.ndarray]] = {
    XLA: _xla_linspace,
    TORCH: _torch_linspace,
}


@dataclasses.dataclass(frozen=True)
class FourierPositionEncoding:
    """Positions of a grid of points with one or more axes.

    Attributes:
        shape: points along each axis.
        bands: Fourier bands for each axis.
        max_resolution: for each axis, twice the highest frequency.
        rounding: XLA or TORCH, whose rounding of positions and frequencies.
    """

    shape: tuple[int, ...]
    bands: int
    max_resolution: tuple[int, ...]
    rounding: Rounding = XLA

    @property
    def channels(self) -> int:
        """Positions, sines and cosines of all axes: 195 for the video at 32 bands."""
        return len(self.shape) * (1 + 2 * self.bands)

    @property
    def size(self) -> int:
        """Points in the grid."""
        return math.prod(self.shape)

    def tables(self, kind: Grid) -> tuple[np.ndarray, ...]:
        """One float32 [points, 1 + 2 * bands] for each axis, on the grid named by `kind`."""
        return tuple(
            fourier_table(kind, size, self.bands, resolution, self.rounding)
            for size, resolution in zip(self.shape, self.max_resolution)
        )

    def axis_channels(self, axis: int) -> np.ndarray:
        """Which channels of the dense code hold the columns of this axis's table.

        The original's order is all positions, then the sines of every axis, then the cosines.
        """
        axes = len(self.shape)
        band = np.arange(self.bands)
        sines = axes + axis * self.bands + band
        return np.concatenate([[axis], sines, sines + axes * self.bands])

    def dense(self, kind: Grid) -> np.ndarray:
        """The code of every point, float32 [size, channels], row-major over the axes."""
        code = np.empty(self.shape + (self.channels,), np.float32)
        for axis, table in enumerate(self.tables(kind)):
            along = [1] * len(self.shape)
            along[axis] = self.shape[axis]
            code[..., self.axis_channels(axis)] = table.reshape(*along, table.shape[1])
        return code.reshape(self.size, self.channels)
