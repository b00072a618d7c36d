"""Inner products with structured tokens, without an array of the tokens.

A token x_j = [u_j | p_j | c] has data u_j, a position code p_j and a learned padding c (see
`tokens.py`). The network uses tokens in two ways only: in inner products with rows [d] and in
weighted sums. The position code of a grid point is the concatenation of a function of t, one of y
and one of x. The inner product of a row with a token is therefore

    x_j . row = u_j . data + axes[0][t] + axes[1][y] + axes[2][x] + constant

`to_axes` computes the small tables on the right from the row. In the other direction, a weighted
sum of tokens needs the weighted sum of their data, the sums of the weights along each axis (their
marginals) and the sum of all weights. `from_axes` turns these into a row; it is the adjoint of
`to_axes`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.network.layers import EPSILON, matmul
from perceiver_io.network.tokens import Tokens


class Rows(NamedTuple):
    """What rows [..., r, d] contribute to inner products with tokens of a modality; a pytree.

    Attributes:
        data: [..., r, c], the factor of the token's own values; c = 0 where it has none.
        axes: [..., r, size] for each axis of the grid, the contribution of the position.
        constant: [..., r], the contribution of the learned padding.
    """

    data: jax.Array
    axes: tuple[jax.Array, ...]
    constant: jax.Array


def to_axes(rows: jax.Array, tokens: Tokens) -> Rows:
    """Rows [..., r, d] to the tables that give their inner products with every token."""
    assert tokens.padding is not None
    data, position, padding = split_rows(rows, tokens)
    axes = tuple(
        matmul(position[..., tokens.on_grid.axis_channels(axis)], table.T)
        for axis, table in enumerate(tokens.on_grid.tables(tokens.grid))
    )
    return Rows(data, axes, matmul(padding, tokens.padding))


def from_axes(sums: Rows, tokens: Tokens) -> jax.Array:
    """Weighted sums of tokens, [..., r, d], from sums of data and marginals of the weights."""
    assert tokens.padding is not None
    tables = tokens.on_grid.tables(tokens.grid)
    codes = jnp.concatenate(
        [matmul(sums.axes[axis], table) for axis, table in enumerate(tables)], axis=-1
    )
    order = np.concatenate([tokens.on_grid.axis_channels(axis) for axis in range(len(tables))])
    padding = sums.constant[..., None] * tokens.padding
    return jnp.concatenate([sums.data, codes[..., np.argsort(order)], padding], axis=-1)


def inverse_deviation(tokens: Tokens) -> jax.Array:
    """1 / sqrt(variance + epsilon) of every token's channels, [b or 1, *grid], float32.

    Computed from the sums and sums of squares of the three parts. Taking their difference is safe:
    the sines and cosines of a Fourier code keep the variance of any token well above the rounding
    error of its squared mean.
    """
    shape = tokens.on_grid.shape
    total = square = jnp.zeros((), jnp.float32)
    for axis, (sums, squares) in enumerate(_axis_sums(tokens)):
        along = [1] * len(shape)
        along[axis] = -1
        total += sums.reshape(along)
        square += squares.reshape(along)
    total, square = total[None], square[None]
    if tokens.data is not None:
        data = tokens.data.astype(jnp.float32)
        total += data.sum(-1).reshape(-1, *shape)
        square += jnp.square(data).sum(-1).reshape(-1, *shape)
    return _inverse(tokens, total, square)


def inverse_deviation_at(tokens: Tokens, points: Sequence[jax.Array]) -> jax.Array:
    """The same of tokens without data, at some points of the grid.

    Args:
        tokens: the tokens.
        points: indices along each axis of the grid, which broadcast to one shape.

    Returns:
        An array of that shape, float32.
    """
    assert tokens.data is None
    total = square = jnp.zeros((), jnp.float32)
    for (sums, squares), at in zip(_axis_sums(tokens), points):
        total += jnp.asarray(sums)[at]
        square += jnp.asarray(squares)[at]
    return _inverse(tokens, total, square)


def _axis_sums(tokens: Tokens) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each axis of the grid, sums and sums of squares of its part of the code, [size]."""
    return [
        (
            table.sum(-1, dtype=np.float64).astype(np.float32),
            np.square(table, dtype=np.float64).sum(-1).astype(np.float32),
        )
        for table in tokens.on_grid.tables(tokens.grid)
    ]


def _inverse(tokens: Tokens, total: jax.Array, square: jax.Array) -> jax.Array:
    """1 / sqrt(variance + epsilon), from the sums over data and position of some tokens."""
    assert tokens.padding is not None
    mean = (total + tokens.padding.sum()) / tokens.width
    mean_square = (square + jnp.square(tokens.padding).sum()) / tokens.width
    return jax.lax.rsqrt(mean_square - jnp.square(mean) + EPSILON)


def centre(rows: jax.Array) -> jax.Array:
    """Rows [..., d] minus their mean.

    As (x - mean(x)) . row = x . centre(row), the tokens x themselves need no centring.
    """
    return rows - rows.mean(-1, keepdims=True)


def split_rows(rows: jax.Array, tokens: Tokens) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The channels of [..., d] that belong to data, position and padding."""
    start = 0 if tokens.data is None else tokens.data.shape[-1]
    stop = start + tokens.on_grid.channels
    return rows[..., :start], rows[..., start:stop], rows[..., stop:]
