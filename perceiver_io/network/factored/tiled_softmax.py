"""Softmax means over a grid of structured tokens, one tile of tokens at a time.

The attention weights, [b, r, *grid], exist for one tile at a time: in the forward pass, with a
running maximum and sum, and again in the backward pass, which recomputes them. Logits, sums and
statistics are float32; products with the tokens' data have the data's dtype.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from perceiver_io.network.factored.inner_products import Rows
from perceiver_io.network.layers import einsum

# Tokens whose weights exist at once: those of one row of patches through all frames (896 of the
# released model) stay in the cache of a CPU.
TILE = 1024


@jax.custom_vjp
def softmax_mean(rows: Rows, data: jax.Array, inverse: jax.Array) -> tuple[Rows, jax.Array]:
    """softmax(row . x / s) means of x / s over a grid of tokens, tile by tile.

    Args:
        rows: r of them by `to_axes`, the same for every example.
        data: [b, *grid, c]; gets no gradient.
        inverse: 1 / s, [b, *grid].

    Returns:
        Means as `Rows` with a leading b, and the log of the sum of exponentials, [b, r].
    """
    return _forward(rows, data, inverse)[0]


# Saved for the backward pass: rows, data, inverse, means, log of the sums of exponentials.
_Residuals = tuple[Rows, jax.Array, jax.Array, Rows, jax.Array]


def _forward(
    rows: Rows, data: jax.Array, inverse: jax.Array
) -> tuple[tuple[Rows, jax.Array], _Residuals]:
    tiles = _Tiles(inverse.shape[1:])

    def step(carry: Any, tile: Any) -> tuple:
        highest, mass, sums = carry
        table, data, inverse = tile
        logits = _scores(tiles.insert(rows, table), data, inverse)
        new_highest = jnp.maximum(highest, logits.max(range(2, logits.ndim)))
        weights = jnp.exp(logits - _expand(new_highest, logits))
        shrink = jnp.exp(highest - new_highest)
        mass = mass * shrink + weights.sum(range(2, weights.ndim))
        new, marginal = tiles.remove(_sums(weights, data, inverse))
        sums = jax.tree.map(lambda old, new: old * _expand(shrink, old) + new, sums, new)
        return (new_highest, mass, sums), (marginal, new_highest)

    b, r = len(data), len(rows.constant)
    kept, table = tiles.remove(rows)
    start = (
        jnp.full((b, r), -jnp.inf),
        jnp.zeros((b, r)),
        jax.tree.map(lambda x: jnp.zeros((b, *x.shape)), kept),
    )
    marginals: jax.Array
    highests: jax.Array
    (highest, mass, sums), (marginals, highests) = jax.lax.scan(
        step, start, tiles.cut_all(table, data, inverse)
    )
    marginals *= jnp.exp(highests - highest)[..., None]  # each used the maximum so far
    sums = tiles.insert(sums, tiles.join(marginals, 2))
    means = jax.tree.map(lambda x: x / _expand(mass, x), sums)
    log_mass = highest + jnp.log(mass)
    return (means, log_mass), (rows, data, inverse, means, log_mass)


def _backward(
    residuals: _Residuals, gradients: tuple[Rows, jax.Array]
) -> tuple[Rows, jax.Array, jax.Array]:
    """Gradients of `rows`, `data` (zero) and `inverse`.

    With weights a and logits l: d_a = d_mean . x / s, and d_l = a (d_a - sum_j a_j d_a_j).
    """
    rows, data, inverse, means, log_mass = residuals
    d_means, d_log_mass = gradients
    tiles = _Tiles(inverse.shape[1:])
    shift = d_log_mass - sum(
        jnp.sum(mean * d_mean, axis=range(2, mean.ndim))
        for mean, d_mean in zip(jax.tree.leaves(means), jax.tree.leaves(d_means))
    )

    def step(d_rows: Rows, tile: Any) -> tuple:
        (table, data, inverse), d_table = tile
        logits = _scores(tiles.insert(rows, table), data, inverse)
        weights = jnp.exp(logits - _expand(log_mass, logits))
        d_weights = _scores(tiles.insert(d_means, d_table), data, inverse)
        d_logits = weights * (d_weights + _expand(shift, weights))
        new, marginal = tiles.remove(_sums(d_logits, data, inverse))
        # Logits and d_weights are both proportional to 1 / s.
        d_inverse = _sum_rows(d_logits * logits + weights * d_weights) / inverse
        return jax.tree.map(jnp.add, d_rows, new), (marginal, d_inverse)

    kept, table = tiles.remove(rows)
    marginals: jax.Array
    d_inverse: jax.Array
    d_rows, (marginals, d_inverse) = jax.lax.scan(
        step,
        jax.tree.map(lambda x: jnp.zeros((len(data), *x.shape)), kept),
        (tiles.cut_all(table, data, inverse), tiles.cut(tiles.remove(d_means)[1], 2)),
    )
    # Summed over the examples once: a sum in the loop is a communication between devices each time.
    d_rows = jax.tree.map(lambda x: x.sum(0), d_rows)
    d_rows = tiles.insert(d_rows, tiles.join(marginals.sum(1), 1))
    return d_rows, jnp.zeros_like(data), tiles.join(d_inverse, tiles.axis + 1)


softmax_mean.defvjp(_forward, _backward)


class _Tiles:
    """Cuts a grid along one axis into tiles of at most TILE tokens, or of one index.

    The axis is the second where there are several: the first may be sharded, and every device then
    holds its share of every tile. For the same reason the indices of a tile are equally spaced.
    """

    def __init__(self, grid: tuple[int, ...]):
        self.axis = min(1, len(grid) - 1)
        self.size = grid[self.axis]
        at_most = max(1, TILE * self.size // math.prod(grid))
        self.count = next(
            n for n in range(1, self.size + 1) if self.size % n == 0 and self.size // n <= at_most
        )

    def cut(self, x: jax.Array, axis: int) -> jax.Array:
        """[..., size, ...] to [count, ..., size / count, ...]."""
        shape = (*x.shape[:axis], self.size // self.count, self.count, *x.shape[axis + 1 :])
        return jnp.moveaxis(x.reshape(shape), axis + 1, 0)

    def join(self, x: jax.Array, axis: int) -> jax.Array:
        """The inverse of `cut`; `axis` counts without the leading one."""
        x = jnp.moveaxis(x, 0, axis + 1)
        return x.reshape(*x.shape[:axis], self.size, *x.shape[axis + 2 :])

    def cut_all(self, table: jax.Array, data: jax.Array, inverse: jax.Array) -> tuple:
        """Cuts the table [r, size] of the cut axis, and the tokens, into what each tile needs."""
        return self.cut(table, 1), self.cut(data, self.axis + 1), self.cut(inverse, self.axis + 1)

    def remove(self, rows: Rows) -> tuple[Rows, jax.Array]:
        """Rows without the cut axis's table, and that table."""
        return self.insert(rows, None), rows.axes[self.axis]

    def insert(self, rows: Rows, table: Any) -> Rows:
        """Rows with another table for the cut axis."""
        return rows._replace(axes=(*rows.axes[: self.axis], table, *rows.axes[self.axis + 1 :]))


def _scores(rows: Rows, data: jax.Array, inverse: jax.Array) -> jax.Array:
    """row . x / s for every row, [r] or [b, r], and token of the tile: [b, r, *grid], float32."""
    b, *grid = inverse.shape
    weights = jnp.broadcast_to(rows.data, (b, *rows.data.shape[-2:])).astype(data.dtype)
    tokens = data.reshape(b, -1, data.shape[-1])
    products = einsum('brc,bmc->brm', weights, tokens).reshape(b, -1, *grid)
    for axis, table in enumerate(rows.axes):
        along = [1] * len(grid)
        along[axis] = -1
        products += table.reshape(*table.shape[:-1], *along)
    constant = rows.constant.reshape(*rows.constant.shape, *[1] * len(grid))
    return (products + constant) * inverse[:, None]


def _sums(weights: jax.Array, data: jax.Array, inverse: jax.Array) -> Rows:
    """sum_j weights x_j / s_j for weights [b, r, *grid]: the adjoint of `_scores`."""
    weights = weights * inverse[:, None]
    b, r, *grid = weights.shape
    flat = weights.reshape(b, r, -1).astype(data.dtype)
    summed = einsum('brm,bmc->brc', flat, data.reshape(b, -1, data.shape[-1]))
    axes = tuple(
        weights.sum([2 + other for other in range(len(grid)) if other != axis])
        for axis in range(len(grid))
    )
    return Rows(summed, axes, axes[0].sum(-1))


def _sum_rows(x: jax.Array) -> jax.Array:
    """Sums [b, r, *grid] over r: as a product with ones, which is faster than a sum on CPUs."""
    b, r, *grid = x.shape
    return einsum('br,brm->bm', jnp.ones((b, r)), x.reshape(b, r, -1)).reshape(b, *grid)


def _expand(x: jax.Array, like: jax.Array) -> jax.Array:
    """[b, r] to [b, r, 1, ...], of `like`'s rank."""
    return x.reshape(*x.shape, *[1] * (like.ndim - 2))
