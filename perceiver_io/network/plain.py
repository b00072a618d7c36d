"""The network's three attentions as the paper describes them: the reference for `factored/`.

Every token, query, key and value is made as a row of an array.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.network.attention import add_attended, attend, attention, self_attention
from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.layers import layer_norm, linear, mlp
from perceiver_io.network.tokens import Tokens, batch_size, join
from perceiver_io.network.weights import (
    CrossAttentionWeights,
    DecoderWeights,
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
    dtype = jnp.dtype(compute.dtype)
    batch = batch_size(tokens)
    latents = jnp.broadcast_to(latents, (batch, *latents.shape))
    attended = attention(
        layer_norm(latents, weights.query_norm).astype(dtype),
        layer_norm(join(tokens, batch, dtype), weights.key_norm),
        weights.attention,
        config.cross_attention_heads,
        functools.partial(attend, rate=config.attention_dropout),
    )
    return add_attended(latents, attended, weights, config, dtype)


def process(
    latents: jax.Array, weights: SelfAttentionWeights, config: NetworkConfig, compute: ComputeConfig
) -> jax.Array:
    """Latents [b, n, d] attend to each other: [b, n, d]."""
    attend_all = functools.partial(attend, rate=config.attention_dropout)
    return self_attention(latents, weights, config, compute.dtype, attend_all)


def decode(
    queries: Sequence[Tokens],
    latents: jax.Array,
    weights: DecoderWeights,
    config: NetworkConfig,
    compute: ComputeConfig,
) -> list[jax.Array]:
    """Queries cross-attend to the latents [b, n, d]: outputs [b, q, k] of each modality, float32.

    Queries without an index are a whole grid. Where they need more than `compute.decode_memory`,
    they are decoded in chunks, each with the same share of every modality.
    """
    points = [
        0 if part.position is None or part.index is not None else part.count for part in queries
    ]
    floats = 6 * queries[0].width + 2 * config.decoder_heads * latents.shape[1]
    at_once = max(1, compute.decode_memory // (4 * len(latents) * floats))
    chunks = math.ceil(sum(points) / at_once)
    if chunks <= 1:
        return _decode_at_once(queries, latents, weights, config, compute)

    def decode_chunk(chunk: jax.Array) -> list[jax.Array]:
        parts = []
        for part, count in zip(queries, points):
            if count:  # the last chunks repeat the last point
                share = math.ceil(count / chunks)
                index = jnp.minimum(chunk * share + jnp.arange(share), count - 1)
                part = dataclasses.replace(part, index=index)
            parts.append(part)
        return _decode_at_once(parts, latents, weights, config, compute)

    def whole(x: jax.Array, count: int) -> jax.Array:
        if not count:
            return x[0]
        x = jnp.moveaxis(x, 0, 1).reshape(len(latents), -1, x.shape[-1])
        return x[:, :count]

    outputs = jax.lax.map(decode_chunk, jnp.arange(chunks))
    return [whole(output, count) for output, count in zip(outputs, points)]


def _decode_at_once(
    queries: Sequence[Tokens],
    latents: jax.Array,
    weights: DecoderWeights,
    config: NetworkConfig,
    compute: ComputeConfig,
) -> list[jax.Array]:
    dtype = jnp.dtype(compute.dtype)
    cross = weights.cross
    x = attention(
        layer_norm(join(queries, len(latents), dtype), cross.query_norm),
        layer_norm(latents, cross.key_norm).astype(dtype),
        cross.attention,
        config.decoder_heads,
        attend,
    )
    normed = layer_norm(x, cross.mlp_norm).astype(dtype)
    x = x + mlp(normed, cross.mlp_in, cross.mlp_out, config.gelu)
    outputs = linear(x.astype(dtype), weights.output).astype(dtype)
    ends = np.cumsum([part.count for part in queries])
    return [
        linear(output, readout)
        for readout, output in zip(weights.readouts, jnp.split(outputs, ends[:-1], axis=1))
    ]
