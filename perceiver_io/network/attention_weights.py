"""The weights of both cross-attentions, to look at them; the forward pass does not need them.

Both ways to compute the network have the same weights. Those over tokens are computed from the
small tables of `factored/inner_products.py`, without an array of the tokens.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.network.config import NetworkConfig
from perceiver_io.network.factored.encoder import normalised, token_rows
from perceiver_io.network.factored.inner_products import inverse_deviation, to_axes
from perceiver_io.network.layers import einsum, layer_norm, linear, split_heads
from perceiver_io.network.tokens import Tokens, batch_size, join
from perceiver_io.network.weights import CrossAttentionWeights


def over_tokens(
    latents: jax.Array,
    tokens: Sequence[Tokens],
    weights: CrossAttentionWeights,
    config: NetworkConfig,
) -> list[jax.Array]:
    """How much latents [n, d] read of every token, mean over the heads.

    Returns:
        [b, n, m] for each modality, float32. Over all modalities they add up to 1.
    """
    heads = config.cross_attention_heads
    queries = layer_norm(latents, weights.query_norm)
    rows = token_rows(queries, weights.attention, weights.key_norm, heads)
    logits = [_logits(rows, part, batch_size(tokens)) for part in tokens]
    shares = jax.nn.softmax(jnp.concatenate(logits, axis=-1), axis=-1)
    shares = shares.reshape(len(shares), heads, len(latents), -1).mean(axis=1)
    ends = np.cumsum([part.count for part in tokens])
    return jnp.split(shares, ends[:-1], axis=-1)


def over_latents(
    queries: Sequence[Tokens],
    latents: jax.Array,
    weights: CrossAttentionWeights,
    config: NetworkConfig,
) -> list[jax.Array]:
    """The attention of queries to every latent [b, n, d], mean over the heads.

    All queries are made as an array: give few of them, by their index.

    Returns:
        [b, q, n] for each modality, float32. For each query they add up to 1.
    """
    heads, batch = config.decoder_heads, len(latents)
    x = layer_norm(join(queries, batch, jnp.float32), weights.query_norm)
    q = split_heads(linear(x, weights.attention.query), heads)
    k = linear(layer_norm(latents, weights.key_norm), weights.attention.key)
    logits = einsum('bqhd,bnhd->bhqn', q, split_heads(k, heads)) / math.sqrt(q.shape[-1])
    shares = jax.nn.softmax(logits, axis=-1).mean(axis=1)
    ends = np.cumsum([part.count for part in queries])
    return jnp.split(shares, ends[:-1], axis=1)


def _logits(rows: jax.Array, part: Tokens, batch: int) -> jax.Array:
    """Inner products of rows [r, d] with the normalised tokens of a modality: [b, r, m]."""
    if part.position is None:
        return einsum('rd,bmd->brm', rows, normalised(part.dense(batch, jnp.float32)))
    assert part.data is not None
    tables = to_axes(rows, part)
    data = jnp.broadcast_to(part.data, (batch, *part.data.shape[-2:]))
    logits = einsum('rc,bmc->brm', tables.data, data).reshape(batch, -1, *part.on_grid.shape)
    for axis, table in enumerate(tables.axes):
        along = [len(rows)] + [1] * len(part.on_grid.shape)
        along[axis + 1] = -1
        logits += table.reshape(along)
    logits += tables.constant.reshape(-1, *[1] * len(part.on_grid.shape))
    logits = (logits * inverse_deviation(part)[:, None]).reshape(batch, len(rows), -1)
    if part.masked is not None:
        assert part.mask_token is not None
        masked = einsum('rd,md->rm', rows, normalised(part.mask_token[None]))
        logits = jnp.where(part.masked[:, None, None], masked, logits)
    return logits
