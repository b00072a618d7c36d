"""Attention, as functions of weights and arrays."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from perceiver_io.network.config import NetworkConfig
from perceiver_io.network.layers import dropout, einsum, layer_norm, linear, mlp, split_heads
from perceiver_io.network.weights import (
    AttentionWeights,
    CrossAttentionWeights,
    SelfAttentionWeights,
)

# Queries [b, q, heads, e], keys and values [b, m, heads, e] to [b, q, heads, e].
Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def attend(q: jax.Array, k: jax.Array, v: jax.Array, rate: float = 0.0) -> jax.Array:
    """softmax(q k / sqrt(e)) v, in v's dtype.

    Args:
        q: [b, q, heads, e].
        k: [b, m, heads, e].
        v: [b, m, heads, e].
        rate: dropout of the attention weights.

    Returns:
        [b, q, heads, e].
    """
    logits = einsum('bqhd,bmhd->bhqm', q, k)
    weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1)
    weights = dropout(weights, rate).astype(v.dtype)
    return einsum('bhqm,bmhd->bqhd', weights, v, dtype=v.dtype)


def attend_by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """`attend`, one head after the other, with weights recomputed in the backward pass.

    Only the attention weights of one head are in memory at a time, in the whole model. On CPUs this
    is also faster than `attend`, which spends much of its time on fresh memory for the weights.
    """

    @jax.checkpoint
    def one_head(qkv: list[jax.Array]) -> jax.Array:
        q, k, v = qkv
        logits = einsum('bqd,bmd->bqm', q, k)
        weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1).astype(v.dtype)
        return einsum('bqm,bmd->bqd', weights, v, dtype=v.dtype)

    head_first = [jnp.moveaxis(x, 2, 0) for x in (q, k, v)]
    return jnp.moveaxis(jax.lax.map(one_head, head_first), 0, 2)


def attention(
    queries: jax.Array, keys: jax.Array, weights: AttentionWeights, heads: int, attend: Attend
) -> jax.Array:
    """Multi-head attention of normalised arrays, [b, q, d] and [b, m, d'] to [b, q, d], float32."""
    dtype = queries.dtype
    q = linear(queries, weights.query).astype(dtype)
    k = linear(keys, weights.key).astype(dtype)
    v = linear(keys, weights.value).astype(dtype)
    mixed = attend(*[split_heads(x, heads) for x in (q, k, v)])
    return linear(mixed.reshape(*mixed.shape[:2], -1), weights.out)


def self_attention(
    x: jax.Array,
    weights: SelfAttentionWeights,
    config: NetworkConfig,
    dtype: DTypeLike,
    attend: Attend,
) -> jax.Array:
    """A pre-norm transformer block, [b, n, d] to [b, n, d]."""
    normed = layer_norm(x, weights.norm).astype(dtype)
    attended = attention(normed, normed, weights.attention, config.self_attention_heads, attend)
    x = x + dropout(attended, config.dropout)
    normed = layer_norm(x, weights.mlp_norm).astype(dtype)
    return x + mlp(normed, weights.mlp_in, weights.mlp_out, config.gelu, config.dropout)


def add_attended(
    latents: jax.Array,
    attended: jax.Array,
    weights: CrossAttentionWeights,
    config: NetworkConfig,
    dtype: DTypeLike,
) -> jax.Array:
    """What follows the attention of the encoder's cross-attention: residual and MLP, [b, n, d]."""
    x = latents + dropout(attended, config.dropout)
    normed = layer_norm(x, weights.mlp_norm).astype(dtype)
    return x + mlp(normed, weights.mlp_in, weights.mlp_out, config.gelu, config.dropout)
