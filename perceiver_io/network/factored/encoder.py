"""The encoder's cross-attention over structured tokens: exact, with a fifth of the arithmetic.

Keys and values of the tokens are never computed. Let x be the tokens, s their standard deviations,
and C the subtraction of a row's mean. Layer norm is C x / s * scale + offset, and therefore

    logits  = q . k = (C diag(scale) W_k q) . x / s + (terms that are constant for a query)
    outputs = sum_j a_j v_j = (C sum_j a_j x_j / s_j * scale + offset) W_v + b_v

The softmax ignores what is constant for a query. So queries are projected into the space of the
tokens, attend to the raw tokens there, and the means are projected back: 784 rows instead of 52,097
in the released model. In that space a video token costs a product over its 48 values and a few
additions (`inner_products.py`).
"""

import functools
import math
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from perceiver_io.network.attention import add_attended, attend_by_head, self_attention
from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.factored.inner_products import (
    centre,
    from_axes,
    inverse_deviation,
    to_axes,
)
from perceiver_io.network.factored.tiled_softmax import softmax_mean
from perceiver_io.network.layers import (
    EPSILON,
    Affine,
    einsum,
    einsum_with_weights,
    layer_norm,
    linear,
)
from perceiver_io.network.tokens import Tokens, batch_size
from perceiver_io.network.weights import (
    AttentionWeights,
    CrossAttentionWeights,
    SelfAttentionWeights,
)


def read(
    latents: jax.Array,
    tokens: Sequence[Tokens],
    weights: CrossAttentionWeights,
    config: NetworkConfig,
    compute: ComputeConfig,
) -> jax.Array:
    """Latents [n, d] cross-attend to the tokens of all modalities: [b, n, d]."""
    queries = layer_norm(latents, weights.query_norm).astype(compute.dtype)
    heads = config.cross_attention_heads
    attended = attend(queries, tokens, weights.attention, weights.key_norm, heads)
    return add_attended(latents, attended, weights, config, compute.dtype)


def process(
    latents: jax.Array, weights: SelfAttentionWeights, config: NetworkConfig, compute: ComputeConfig
) -> jax.Array:
    """Latents [b, n, d] attend to each other: [b, n, d]."""
    return self_attention(latents, weights, config, compute.dtype, attend_by_head)


def attend(
    queries: jax.Array,
    tokens: Sequence[Tokens],
    weights: AttentionWeights,
    norm: Affine,
    heads: int,
) -> jax.Array:
    """Attention of normalised queries over tokens that are not yet normalised.

    Args:
        queries: [n, d], the same for every example.
        tokens: of every modality, all of width d'.
        weights: of the attention's four linear layers.
        norm: scale and offset, [d'] each, of the tokens' layer norm.
        heads: of the attention.

    Returns:
        [b, n, d], float32.
    """
    dtype = queries.dtype
    scale, offset = norm
    n, width = len(queries), len(scale)
    batch = batch_size(tokens)

    means = mean_token(token_rows(queries, weights, norm, heads), tokens, batch, dtype)
    means = (centre(means) * scale + offset).astype(dtype).reshape(batch, heads, n, width)

    w_v, b_v = weights.value
    w_v = w_v.reshape(width, heads, -1)
    values = einsum_with_weights('bhnd,dhk->bnhk', means, w_v).reshape(batch, n, -1) + b_v
    return linear(values.astype(dtype), weights.out)


def token_rows(
    queries: jax.Array, weights: AttentionWeights, norm: Affine, heads: int
) -> jax.Array:
    """The queries in the space of the tokens: their logits are inner products with x / s.

    Args:
        queries: [n, d], normalised.
        weights, norm, heads: as of `attend`.

    Returns:
        [heads * n, d'], float32, centred.
    """
    scale, _ = norm
    n, width = len(queries), len(scale)
    q = linear(queries, weights.query).reshape(n, heads, -1)
    q = q / math.sqrt(q.shape[-1])
    w_k, _ = weights.key  # the bias adds the same to all logits of a query
    w_k = (scale[:, None] * w_k).reshape(width, heads, -1)
    return centre(einsum('nhk,dhk->hnd', q.astype(jnp.float32), w_k).reshape(heads * n, width))


def mean_token(
    rows: jax.Array, tokens: Sequence[Tokens], batch: int, dtype: DTypeLike
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
    return functools.reduce(operator.add, [share[i, ..., None] * x for i, x in enumerate(means)])


def _mean_of_part(
    rows: jax.Array, part: Tokens, batch: int, dtype: DTypeLike
) -> tuple[jax.Array, jax.Array]:
    """Means [b, r, d] over the tokens of one modality; log [b, r] of the sum of exponentials."""
    if part.position is None:
        return _mean_of_dense(rows, part.dense(batch, jnp.float32))
    grid = part.position.shape
    assert part.data is not None
    data = jax.lax.stop_gradient(part.data).astype(dtype)
    data = jnp.broadcast_to(data, (batch, *data.shape[-2:])).reshape(batch, *grid, -1)
    inverse = jnp.broadcast_to(inverse_deviation(part), (batch, *grid))
    sums, log_mass = softmax_mean(to_axes(rows, part), data, inverse)
    means = from_axes(sums, part)
    if part.masked is not None:
        assert part.mask_token is not None
        # All tokens of a masked example are the mask token.
        mask_mean, mask_log_mass = _mean_of_dense(rows, part.mask_token[None, None])
        means = jnp.where(part.masked[:, None, None], mask_mean, means)
        log_mass = jnp.where(part.masked[:, None], mask_log_mass + math.log(part.count), log_mass)
    return means, log_mass


def _mean_of_dense(rows: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The same for a few tokens [b or 1, m, d] without structure."""
    x = normalised(x)
    logits = einsum('rd,bmd->brm', rows, x)
    means = einsum('brm,bmd->brd', jax.nn.softmax(logits, axis=-1), x)
    return means, jax.nn.logsumexp(logits, axis=-1)


def normalised(x: jax.Array) -> jax.Array:
    """[..., d] with mean 0 and variance 1: a layer norm without its scale and offset."""
    variance = jnp.square(centre(x)).mean(-1, keepdims=True)
    return centre(x) * jax.lax.rsqrt(variance + EPSILON)
