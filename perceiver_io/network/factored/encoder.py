"""The encoder's cross-attention over structured tokens, exact, with a fifth of the arithmetic.

Keys and values of the tokens are never made. With x the tokens, s their standard deviations and
C the subtraction of a row's mean, layer norm is C x / s * g + o, and

    logits  = q . k = (C diag(g) W_k q) . x / s + (what the softmax ignores)
    outputs = sum_j a_j v_j = (C sum_j a_j x_j / s_j * g + o) W_v + b_v

so that the queries are projected into token space, attend to the raw tokens there, and their means
are projected back: 784 rows instead of 52,097. In token space a token costs a product over its 48
values and a few additions (`separable.py`). Attention weights exist for one tile of tokens at a
time, in the forward pass and again in the backward pass.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from perceiver_io.network.attention import (
    Affine,
    Attention,
    AttentionWeights,
    CrossAttention,
    LayerNorm,
    linear,
)
from perceiver_io.network.factored.separable import (
    Rows,
    centre,
    from_axes,
    inverse_deviation,
    to_axes,
)
from perceiver_io.network.tokens import Tokens

# Tokens whose weights exist at once. On 2 CPU cores one row of the picture through all frames (896)
# took 0.7 of the time of four rows: its weights, 2.8 MB, stay in the cache.
TILE = 1024


class TokenCrossAttention(CrossAttention):
    """`CrossAttention` of learned latents, the same for every example, over structured tokens."""

    def __call__(self, latents: jax.Array, tokens: Sequence[Tokens], batch: int) -> jax.Array:
        """Latents [n, d] and the tokens of every modality to [b, n, d] with b = `batch`."""
        width = tokens[0].width
        attention = Attention(self.heads, width, width, latents.shape[-1])
        queries = LayerNorm()(latents).astype(self.dtype)
        attended = attend(
            attention.parameters(latents.shape[-1], width),
            LayerNorm().parameters(width),
            self.heads,
            queries,
            tokens,
            batch,
        )
        return self.finish(latents, attended)


def attend(
    weights: AttentionWeights,
    norm: Affine,
    heads: int,
    queries: jax.Array,
    tokens: Sequence[Tokens],
    batch: int,
) -> jax.Array:
    """Attention of normalised queries over tokens that it normalises with scale and offset `norm`.

    Args:
        weights: of the four linear layers.
        norm: scale and offset, [d'] each, of the tokens' layer norm.
        heads: of the attention.
        queries: [n, d].
        tokens: of every modality, all of width d'.
        batch: b.

    Returns:
        [b, n, d] in the queries' dtype.
    """
    dtype = queries.dtype
    scale, offset = norm
    n, width = len(queries), len(scale)

    q = linear(queries, weights.query).reshape(n, heads, -1)
    q = q / math.sqrt(q.shape[-1])
    w_k, _ = weights.key  # the key bias moves all logits of a query alike
    w_k = (scale[:, None] * w_k).reshape(width, heads, -1)
    rows = jnp.einsum('nhk,dhk->hnd', q.astype(jnp.float32), w_k).reshape(heads * n, width)

    means = mean_token(centre(rows), tokens, batch, dtype)
    means = (centre(means) * scale + offset).astype(dtype).reshape(batch, heads, n, width)

    w_v, b_v = weights.value
    w_v = w_v.astype(dtype).reshape(width, heads, -1)
    values = jnp.einsum('bhnd,dhk->bnhk', means, w_v).reshape(batch, n, -1)
    return linear(values + b_v.astype(dtype), weights.out)


def mean_token(
    rows: jax.Array, tokens: Sequence[Tokens], batch: int, dtype: jnp.dtype
) -> jax.Array:
    """For every row, the mean of x / s over all tokens, weighted by softmax(row . x / s).

    Args:
        rows: [r, d], float32, centred.
        tokens: x, of every modality.
        batch: b.
        dtype: of the products with data; sums and softmax are float32.

    Returns:
        [b, r, d], float32.
    """
    means, log_masses = zip(*[_mean_of_part(rows, part, batch, dtype) for part in tokens])
    share = jax.nn.softmax(jnp.stack(log_masses), axis=0)
    return sum(share[i, ..., None] * mean for i, mean in enumerate(means))


def _mean_of_part(rows, part, batch, dtype):
    """Means [b, r, d] over the tokens of one modality; log [b, r] of the sum of exponentials."""
    if part.position is None:
        return _mean_of_dense(rows, part.dense(batch, jnp.float32))
    grid = part.position.shape
    data = jax.lax.stop_gradient(part.data).astype(dtype)
    data = jnp.broadcast_to(data, (batch, *data.shape[-2:])).reshape(batch, *grid, -1)
    inverse = jnp.broadcast_to(inverse_deviation(part), (batch, *grid))
    means, log_mass = _softmax_mean(to_axes(rows, part), data, inverse)
    means = from_axes(means, part)
    if part.masked is not None:  # all tokens of such an example are the mask token
        mask_mean, mask_log_mass = _mean_of_dense(rows, part.mask_token[None, None])
        means = jnp.where(part.masked[:, None, None], mask_mean, means)
        log_mass = jnp.where(part.masked[:, None], mask_log_mass + math.log(part.count), log_mass)
    return means, log_mass


def _mean_of_dense(rows, x):
    """The same for a few tokens [b, m, d] without structure."""
    variance = jnp.square(centre(x)).mean(-1, keepdims=True)
    x = centre(x) * jax.lax.rsqrt(variance + LayerNorm.EPSILON)
    logits = jnp.einsum('rd,bmd->brm', rows, x)
    means = jnp.einsum('brm,bmd->brd', jax.nn.softmax(logits, axis=-1), x)
    return means, jax.nn.logsumexp(logits, axis=-1)


@jax.custom_vjp
def _softmax_mean(rows: Rows, data: jax.Array, inverse: jax.Array) -> tuple[Rows, jax.Array]:
    """softmax(row . x / s) means of x / s over a grid of tokens, tile by tile.

    Args:
        rows: lifted, r of them, the same for every example.
        data: [b, *grid, c]; gets no gradient.
        inverse: 1 / s, [b, *grid].

    Returns:
        Means as `Rows` with leading b, and log of the sum of the exponentials, [b, r].
    """
    return _forward(rows, data, inverse)[0]


def _forward(rows, data, inverse):
    tiles = _Tiles(inverse.shape[1:])

    def step(carry, tile):
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
    (highest, mass, sums), (marginals, highests) = jax.lax.scan(
        step, start, tiles.cut_all(table, data, inverse)
    )
    marginals *= jnp.exp(highests - highest)[..., None]  # each was left at the maximum of its time
    sums = tiles.insert(sums, tiles.join(marginals, 2))
    means = jax.tree.map(lambda x: x / _expand(mass, x), sums)
    log_mass = highest + jnp.log(mass)
    return (means, log_mass), (rows, data, inverse, means, log_mass)


def _backward(residuals, gradients):
    """With weights a and logits l: d_a = d_mean . x / s, and d_l = a (d_a - sum_j a_j d_a_j)."""
    rows, data, inverse, means, log_mass = residuals
    d_means, d_log_mass = gradients
    tiles = _Tiles(inverse.shape[1:])
    shift = d_log_mass - sum(
        jnp.sum(mean * d_mean, axis=range(2, mean.ndim))
        for mean, d_mean in zip(jax.tree.leaves(means), jax.tree.leaves(d_means))
    )

    def step(d_rows, tile):
        (table, data, inverse), d_table = tile
        logits = _scores(tiles.insert(rows, table), data, inverse)
        weights = jnp.exp(logits - _expand(log_mass, logits))
        d_weights = _scores(tiles.insert(d_means, d_table), data, inverse)
        d_logits = weights * (d_weights + _expand(shift, weights))
        new, marginal = tiles.remove(_sums(d_logits, data, inverse))
        # Logits and d_weights are both proportional to 1 / s.
        d_inverse = _sum_rows(d_logits * logits + weights * d_weights) / inverse
        d_rows = jax.tree.map(lambda old, new: old + new.sum(0), d_rows, new)
        return d_rows, (marginal.sum(0), d_inverse)

    kept, table = tiles.remove(rows)
    d_rows, (marginals, d_inverse) = jax.lax.scan(
        step,
        jax.tree.map(jnp.zeros_like, kept),
        (tiles.cut_all(table, data, inverse), tiles.cut(tiles.remove(d_means)[1], 2)),
    )
    d_rows = tiles.insert(d_rows, tiles.join(marginals, 1))
    return d_rows, jnp.zeros_like(data), tiles.join(d_inverse, tiles.axis + 1)


_softmax_mean.defvjp(_forward, _backward)


class _Tiles:
    """Cuts a grid along one axis into tiles of at most TILE tokens, or of one index.

    The axis is the second, where there is one: the first may be sharded, and every device then
    takes its share of every tile. For the same reason a tile takes indices at equal distances.
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
        """What belongs to each tile: its part of the cut axis's table [r, size], its tokens."""
        return self.cut(table, 1), self.cut(data, self.axis + 1), self.cut(inverse, self.axis + 1)

    def remove(self, rows: Rows) -> tuple[Rows, jax.Array]:
        """Rows without the cut axis's table, and that table."""
        return self.insert(rows, None), rows.axes[self.axis]

    def insert(self, rows: Rows, table: jax.Array | None) -> Rows:
        """Rows with another table for the cut axis."""
        return rows._replace(axes=(*rows.axes[: self.axis], table, *rows.axes[self.axis + 1 :]))


def _scores(rows: Rows, data: jax.Array, inverse: jax.Array) -> jax.Array:
    """row . x / s for every row, [r] or [b, r], and token of the tile: [b, r, *grid], float32."""
    b, *grid = inverse.shape
    weights = jnp.broadcast_to(rows.data, (b, *rows.data.shape[-2:])).astype(data.dtype)
    products = jnp.einsum(
        'brc,bmc->brm',
        weights,
        data.reshape(b, -1, data.shape[-1]),
        preferred_element_type=jnp.float32,
    ).reshape(b, -1, *grid)
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
    summed = jnp.einsum(
        'brm,bmc->brc',
        flat,
        data.reshape(b, -1, data.shape[-1]),
        preferred_element_type=jnp.float32,
    )
    axes = tuple(
        weights.sum([2 + other for other in range(len(grid)) if other != axis])
        for axis in range(len(grid))
    )
    return Rows(summed, axes, axes[0].sum(-1))


def _sum_rows(x: jax.Array) -> jax.Array:
    """[b, r, *grid] to [b, *grid]: as a product with ones, twice as fast as a sum on a CPU."""
    b, r, *grid = x.shape
    return jnp.einsum('br,brm->bm', jnp.ones((b, r)), x.reshape(b, r, -1)).reshape(b, *grid)


def _expand(x: jax.Array, like: jax.Array) -> jax.Array:
    """[b, r] to [b, r, 1, ...], of `like`'s rank."""
    return x.reshape(*x.shape, *[1] * (like.ndim - 2))
