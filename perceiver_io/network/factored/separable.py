"""Inner products with structured tokens, without the tokens.

A token x_j = [u_j | p_j | c] (see `tokens.py`) meets the rest of the network only in inner products
with rows of its width, and in weighted sums. The code p_j of a grid point is a function of t, next
to one of y, next to one of x, so that

    x_j . row = u_j . data + axes[0][t] + axes[1][y] + axes[2][x] + constant

where `to_axes` makes the small tables on the right from the row. A weighted sum of tokens needs, in
turn, the weighted sum of the data, the sums of the weights along each axis (their marginals) and
the sum of all: the same structure, which `from_axes` turns into a row. The two are adjoint.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.network.attention import LayerNorm
from perceiver_io.network.tokens import Tokens


class Rows(NamedTuple):
    """Rows [..., r, d] as the tokens of one modality see them; a pytree.

    Attributes:
        data: [..., r, c], against the token's own values; c = 0 where it has none.
        axes: [..., r, size] for each axis of the grid.
        constant: [..., r], against the learned padding.
    """

    data: jax.Array
    axes: tuple[jax.Array, ...]
    constant: jax.Array


def to_axes(rows: jax.Array, tokens: Tokens) -> Rows:
    """Rows [..., r, d] to the tables that give their inner products with every token."""
    data, position, padding = _split(rows, tokens)
    axes = tuple(
        position[..., tokens.position.axis_channels(axis)] @ table.T
        for axis, table in enumerate(tokens.position.tables(tokens.grid))
    )
    return Rows(data, axes, padding @ tokens.padding)


def from_axes(sums: Rows, tokens: Tokens) -> jax.Array:
    """Weighted sums, one for each row, of data, along each axis, and of all: tokens [..., r, d]."""
    tables = tokens.position.tables(tokens.grid)
    codes = jnp.concatenate([sums.axes[axis] @ table for axis, table in enumerate(tables)], axis=-1)
    order = np.concatenate([tokens.position.axis_channels(axis) for axis in range(len(tables))])
    padding = sums.constant[..., None] * tokens.padding
    return jnp.concatenate([sums.data, codes[..., np.argsort(order)], padding], axis=-1)


def inverse_deviation(tokens: Tokens) -> jax.Array:
    """1 / sqrt(variance + epsilon) of every token's channels, [b or 1, *grid], float32.

    From sums and sums of squares of the three parts. Their difference is safe: the sines and
    cosines of a Fourier code keep the variance of any token well above the rounding of its mean.
    """
    position = tokens.position
    total = square = jnp.float32(0)
    for axis, table in enumerate(position.tables(tokens.grid)):
        along = [1] * len(position.shape)
        along[axis] = -1
        total += table.sum(-1, dtype=np.float64).astype(np.float32).reshape(along)
        square += np.square(table, dtype=np.float64).sum(-1).astype(np.float32).reshape(along)
    total, square = total[None], square[None]
    if tokens.data is not None:
        data = tokens.data.astype(jnp.float32)
        total += data.sum(-1).reshape(-1, *position.shape)
        square += jnp.square(data).sum(-1).reshape(-1, *position.shape)
    mean = (total + tokens.padding.sum()) / tokens.width
    mean_square = (square + jnp.square(tokens.padding).sum()) / tokens.width
    return jax.lax.rsqrt(mean_square - jnp.square(mean) + LayerNorm.EPSILON)


def centre(rows: jax.Array) -> jax.Array:
    """Rows less their mean. (x - mean(x)) . row = x . centre(row): tokens need no centring."""
    return rows - rows.mean(-1, keepdims=True)


def _split(rows: jax.Array, tokens: Tokens) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The channels of [..., d] that meet data, position and padding."""
    start = 0 if tokens.data is None else tokens.data.shape[-1]
    stop = start + tokens.position.channels
    return rows[..., :start], rows[..., start:stop], rows[..., stop:]
