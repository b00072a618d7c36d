"""The decoder over structured queries: exact, with a fifth of the arithmetic.

A query is [position | padding] and has no data: its layer norm, projection and logits follow from a
few small tables. The keys of an example, projected back into the space of the queries, give one
table for each axis of the grid (`inner_products.py`). The logits of a pixel (t, y, x) are then

    (axes[0][t] + axes[1][y] + axes[2][x]) / s(t, y, x) + bias

and the linear layers after the softmax are folded into each other (`folded_layers.py`).

Folding costs as much as some thousand queries. Few queries, such as those of a training step, are
therefore decoded by `decode_dense`: projected once for all examples, then layer by layer. So are
all queries, however many, where a gradient is computed: folding has no safe derivative where
weights lose rank.
"""

import dataclasses
import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.factored.folded_layers import Folded, QueryWeights, finish, fold
from perceiver_io.network.factored.inner_products import (
    centre,
    inverse_deviation_at,
    split_rows,
    to_axes,
)
from perceiver_io.network.layers import (
    ACTIVATIONS,
    compose,
    compose_without_bias,
    einsum,
    einsum_with_weights,
    layer_norm,
    linear,
    matmul,
    mlp,
    split_heads,
)
from perceiver_io.network.tokens import Tokens
from perceiver_io.network.weights import CrossAttentionWeights, DecoderWeights

# More queries of a modality than this are decoded by `decode_folded`. For one example of the
# released model on a CPU, both ways take equally long for about 5,700 queries; for four, 2,300.
FEW = 4096


def decode(
    queries: Sequence[Tokens],
    latents: jax.Array,
    weights: DecoderWeights,
    config: NetworkConfig,
    compute: ComputeConfig,
) -> list[jax.Array]:
    """Queries cross-attend to the latents [b, n, d]: outputs [b, q, k] of each modality, float32.

    Each modality is decoded by itself. Many queries are decoded in chunks that need about
    `compute.decode_memory` bytes.
    """
    memory = project_latents(latents, weights.cross, config.decoder_heads, compute.dtype)
    outputs = []
    for part, readout in zip(queries, weights.readouts):
        own = QueryWeights(weights.cross, weights.output, readout)
        if part.count > FEW and part.position is not None:
            outputs.append(decode_folded(own, memory, part, config.gelu, compute.decode_memory))
        else:
            outputs.append(decode_dense(own, memory, part, config.gelu))
    return outputs


class Memory(NamedTuple):
    """What the queries attend to.

    Attributes:
        keys: [b, heads, n, e] over sqrt(e), in the dtype of products.
        values: [b, heads, n, e], float32, as they may be folded with weights.
    """

    keys: jax.Array
    values: jax.Array


def project_latents(
    latents: jax.Array, weights: CrossAttentionWeights, heads: int, dtype: DTypeLike
) -> Memory:
    """Keys and values of the latents [b, n, d], by products in `dtype`."""
    normed = layer_norm(latents, weights.key_norm).astype(dtype)
    keys, values = (
        jnp.swapaxes(split_heads(linear(normed, layer), heads), 1, 2)
        for layer in (weights.attention.key, weights.attention.value)
    )
    keys = keys / math.sqrt(keys.shape[-1])
    return Memory(keys.astype(dtype), values)


def decode_dense(weights: QueryWeights, memory: Memory, queries: Tokens, gelu: str) -> jax.Array:
    """Decodes queries, the same for every example, layer by layer: [b, q, k], float32."""
    b, heads, _, e = memory.keys.shape
    cross = weights.cross
    dtype = memory.keys.dtype
    normed = layer_norm(queries.dense(1, dtype)[0], cross.query_norm)
    q = linear(normed, cross.attention.query).reshape(-1, heads, e)
    logits = einsum_with_weights('bhne,qhe->bhqn', memory.keys, q)
    attention = jax.nn.softmax(logits, axis=-1).astype(dtype)
    mixed = einsum('bhqn,bhne->bqhe', attention, memory.values.astype(dtype), dtype=dtype)

    x = linear(mixed.reshape(b, len(q), -1), cross.attention.out)
    normed = layer_norm(x, cross.mlp_norm).astype(dtype)
    if b * len(q) < len(weights.readout[1]):
        x = x + mlp(normed, cross.mlp_in, cross.mlp_out, gelu)
        x = linear(x.astype(dtype), weights.output)
        return linear(x.astype(dtype), weights.readout)
    hidden = ACTIVATIONS[gelu](linear(normed, cross.mlp_in)).astype(dtype)
    # The last three layers have no nonlinearity between them: the narrowest comes first.
    tail = compose(weights.output, weights.readout)
    return linear(x.astype(dtype), tail) + linear(hidden, compose_without_bias(cross.mlp_out, tail))


class Tables(NamedTuple):
    """What the logits of the queries of a modality are summed up from.

    Attributes:
        axes: for each axis of the grid, a function from indices, int [*shape], to a part of the
            logits, [b, heads, *shape, n]; the first includes the padding.
        bias: [b, heads, n].
        inverse: a function from points to 1 / standard deviation of their queries.
    """

    axes: tuple[Callable[[jax.Array], jax.Array], ...]
    bias: jax.Array
    inverse: Callable[['Points'], jax.Array]


def make_tables(weights: QueryWeights, memory: Memory, queries: Tokens) -> Tables:
    """The tables of q . k = ((C x / s * scale + offset) W_q + b_q) . k with x the queries.

    The table of a grid's only axis would hold the logits of all queries: there, they are computed
    for the indices that are asked for.
    """
    _, heads, _, e = memory.keys.shape
    (scale, offset), (w, b) = weights.cross.query_norm, weights.cross.attention.query
    keys = memory.keys.astype(jnp.float32)
    w = w.reshape(len(scale), heads, e)
    rows = centre(einsum('bhne,dhe->bhnd', keys, scale[:, None, None] * w))
    offset = einsum('d,dhe->he', offset, w) + b.reshape(heads, e)
    bias = einsum('bhne,he->bhn', keys, offset)
    axes = _only_axis(rows, queries) if len(queries.on_grid.shape) == 1 else _axes(rows, queries)
    return Tables(axes, bias, functools.partial(inverse_deviation_at, queries))


def _axes(rows: jax.Array, queries: Tokens) -> tuple[Callable[[jax.Array], jax.Array], ...]:
    tables = to_axes(rows, queries)
    first, *others = (jnp.swapaxes(table, 2, 3) for table in tables.axes)
    first += tables.constant[:, :, None]
    return tuple(
        functools.partial(jnp.take, table, axis=2, mode='clip') for table in (first, *others)
    )


def _only_axis(rows: jax.Array, queries: Tokens) -> tuple[Callable[[jax.Array], jax.Array]]:
    assert queries.padding is not None
    _, position, padding = split_rows(rows, queries)
    constant = matmul(padding, queries.padding)
    (table,) = queries.on_grid.tables(queries.grid)

    def at(indices: jax.Array) -> jax.Array:
        code = jnp.take(table, indices.reshape(-1), axis=0, mode='clip')
        part = einsum('qc,bhnc->bhqn', code, position) + constant[:, :, None]
        return part.reshape(*part.shape[:2], *indices.shape, -1)

    return (at,)


def decode_folded(
    weights: QueryWeights, memory: Memory, queries: Tokens, gelu: str, bytes_at_once: int
) -> jax.Array:
    """Decodes queries on a grid by tables and folded layers, in chunks: [b, q, k], float32.

    Args:
        weights: of the modality.
        memory: keys and values.
        queries: of the modality, with a position.
        gelu: which GELU.
        bytes_at_once: memory for the arrays of a chunk.
    """

    # custom_vjp takes arrays only: the static parts of the queries stay outside of its arguments.
    def rebuild(padding: jax.Array, index: jax.Array | None) -> Tokens:
        return dataclasses.replace(queries, padding=padding, index=index)

    def folded(
        weights: QueryWeights, memory: Memory, padding: jax.Array, index: jax.Array | None
    ) -> jax.Array:
        return _decode_in_chunks(weights, memory, rebuild(padding, index), gelu, bytes_at_once)

    def dense(
        weights: QueryWeights, memory: Memory, padding: jax.Array, index: jax.Array | None
    ) -> jax.Array:
        return decode_dense(weights, memory, rebuild(padding, index), gelu)

    decode = jax.custom_vjp(folded)
    decode.defvjp(
        lambda *args: jax.vjp(dense, *args), lambda pull_back, gradient: pull_back(gradient)
    )
    return decode(weights, memory, queries.padding, queries.index)


# From points to m z, m (v direct) and m, the arguments of `finish`.
_Mix = Callable[['Points'], tuple[jax.Array, jax.Array, jax.Array]]
# One int array for each axis of the grid; together they broadcast to the shape of the queries.
Points = tuple[jax.Array, ...]


def _decode_in_chunks(
    weights: QueryWeights, memory: Memory, queries: Tokens, gelu: str, bytes_at_once: int
) -> jax.Array:
    dtype = memory.keys.dtype
    b, heads, n, _ = memory.keys.shape
    tables, folded = make_tables(weights, memory, queries), fold(weights)
    mix = _mix_values if heads == 1 else _mix_outputs
    mixed = mix(folded, memory.values, functools.partial(_attend, tables), dtype)
    folded = folded._replace(first=folded.first.astype(dtype), second=folded.second.astype(dtype))

    # About twice the logits, z, and twice the hidden layer are in memory at once.
    floats = 2 * heads * n + len(folded.shift) + 2 * len(folded.first_bias)
    lines, width, points_of = _lines(queries)
    chunk = max(1, bytes_at_once // (4 * b * width * floats))
    chunks = -(-lines // chunk)
    chunk = -(-lines // chunks)

    # A chunk takes every `chunks`-th line, so that each chunk has a share of a sharded first axis.
    # The last chunks repeat the last line.
    def decode_chunk(i: jax.Array) -> jax.Array:
        points = points_of(jnp.minimum(i + chunks * jnp.arange(chunk), lines - 1))
        return finish(folded, *mixed(points), gelu)

    outputs = jax.lax.map(decode_chunk, jnp.arange(chunks))
    outputs = outputs.reshape(chunks, b, chunk, width, -1).transpose(1, 2, 0, 3, 4)
    return outputs.reshape(b, chunk * chunks * width, -1)[:, : queries.count]


def _lines(queries: Tokens) -> tuple[int, int, Callable[[jax.Array], Points]]:
    """Divides queries into lines.

    A line of a whole grid runs along its last axis. Queries by index, and those on a grid with a
    single axis, are lines of one query.

    Returns:
        The number of lines, the number of queries in each, and a function from lines, int [l], to
        the points of their queries.
    """
    *outer, last = queries.on_grid.shape
    if queries.index is None and outer:

        def points_of(lines: jax.Array) -> Points:
            outer_points = jnp.unravel_index(lines[:, None], outer)
            return (*outer_points, jnp.arange(last)[None])

        return math.prod(outer), last, points_of

    indices = queries.axis_indices()
    return queries.count, 1, lambda lines: tuple(index[lines] for index in indices)


def _mix_values(
    folded: Folded, values: jax.Array, attend: Callable[[Points], jax.Array], dtype: DTypeLike
) -> _Mix:
    """For one head: folds the values before the attention. m is the sum of the softmax.

    The softmax needs no division, as m cancels in `finish`; a column of ones sums it.
    """
    wide = matmul(values, folded.mix) + folded.shift
    narrow = jnp.concatenate(
        [matmul(values, folded.direct), jnp.ones_like(values[..., :1])], axis=-1
    )

    def mixed(points: Points) -> tuple[jax.Array, jax.Array, jax.Array]:
        weights = attend(points).astype(dtype)
        z, rest = (_weighted_sums(weights, x.astype(dtype))[:, 0] for x in (wide, narrow))
        return z, rest[..., :-1], rest[..., -1:]

    return mixed


def _mix_outputs(
    folded: Folded, values: jax.Array, attend: Callable[[Points], jax.Array], dtype: DTypeLike
) -> _Mix:
    """For several heads, whose folded values would be wider: folds their outputs. m is 1."""

    def mixed(points: Points) -> tuple[jax.Array, jax.Array, jax.Array]:
        weights = attend(points)
        means = _weighted_sums(weights.astype(dtype), values.astype(dtype))
        means = means / weights.sum(-1, keepdims=True)
        b, heads, q, e = means.shape
        v = jnp.swapaxes(means, 1, 2).reshape(b, q, heads * e)
        z, direct = (matmul(v.astype(dtype), w.astype(dtype)) for w in (folded.mix, folded.direct))
        return z + folded.shift, direct, jnp.ones((b, q, 1))

    return mixed


def _attend(tables: Tables, points: Points) -> jax.Array:
    """exp(logits - their maximum) of the queries at `points`: [b, heads, q, n], float32."""
    terms = [axis(at) for axis, at in zip(tables.axes, points)]
    logits = functools.reduce(operator.add, terms)
    b, heads, *shape, n = logits.shape
    inverse = tables.inverse(points)[..., None]
    bias = tables.bias.reshape(b, heads, *[1] * len(shape), n)
    logits = (logits * inverse + bias).reshape(b, heads, -1, n)
    return jnp.exp(logits - logits.max(-1, keepdims=True))


def _weighted_sums(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Sums over n of weights [b, heads, q, n] times x [b, heads, n, d]: [b, heads, q, d]."""
    return einsum('bhqn,bhnd->bhqd', weights, x)
