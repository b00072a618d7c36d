"""The decoder without a query of full width, exact, with a fifth of the arithmetic.

A query is [position | padding] and has no data: its layer norm, its projection and its logits are
those of a few tables. Keys of an example, taken back through the query projection into the space of
the queries, give one table for each axis (`separable.py`); the logits of a pixel are then

    (axes[0][t] + axes[1][y] + axes[2][x]) / s(t, y, x) + bias

After the softmax nothing but one GELU is nonlinear, and the linear layers around it are folded into
each other (`folding.py`).

Folding costs as much as some thousand queries. Few queries, such as a training step's, are
projected once for all examples and go through the layers one by one: `decode_dense`. So do those that
a gradient is asked of, however many: the folding has no safe derivative where weights lose rank.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_io.network.attention import (
    ACTIVATIONS,
    CrossAttention,
    CrossAttentionWeights,
    Linear,
    layer_norm,
    linear,
    split_heads,
)
from perceiver_io.network.factored.folding import (
    Weights,
    compose,
    compose_without_bias,
    finish,
    fold,
    product,
)
from perceiver_io.network.factored.separable import centre, inverse_deviation, to_axes
from perceiver_io.network.tokens import Tokens

# More queries of a modality than this are answered by `decode_folded`. On a CPU core that takes
# 0.22 s at once and then 13 us a query instead of 51: as long as `decode_dense` for 5,700 queries of
# one example, or 2,300 of each of four.
FEW = 4096


class ExactDecoder(hk.Module):
    """`BasicDecoder` over structured queries; every modality by itself."""

    def __init__(
        self,
        *,
        channels: int,
        heads: int,
        gelu: str,
        dtype: jnp.dtype,
        memory: int,
        name: str = 'basic_decoder',
    ):
        super().__init__(name=name)
        self.channels = channels
        self.heads = heads
        self.gelu = gelu
        self.dtype = dtype
        self.memory = memory

    def __call__(
        self, queries: Sequence[Tokens], latents: jax.Array, readouts: Sequence
    ) -> list[jax.Array]:
        """Queries of every modality and latents [b, n, d] to answers [b, q, k] of each, float32."""
        width, latent_channels = queries[0].width, latents.shape[-1]
        cross_attention = CrossAttention(
            self.heads, widening=1, gelu=self.gelu, query_residual=False
        )
        cross = cross_attention.parameters(width, latent_channels)
        output = Linear(self.channels, name='output').parameters(width)

        memory = project_latents(cross, self.heads, latents, self.dtype)
        answers = []
        for part, readout in zip(queries, readouts):
            weights = Weights(cross, output, readout.parameters(self.channels))
            if part.count > FEW and part.position is not None:
                answers.append(decode_folded(weights, memory, part, self.gelu, self.memory))
            else:
                answers.append(decode_dense(weights, memory, part, self.gelu))
        return answers


class Memory(NamedTuple):
    """What the queries attend to: [b, heads, n, e] each; keys are divided by the root of e.

    Keys are of the dtype that products of activations have; values, which may be folded, float32.
    """

    keys: jax.Array
    values: jax.Array


def project_latents(
    weights: CrossAttentionWeights, heads: int, latents: jax.Array, dtype: jnp.dtype
) -> Memory:
    """Keys and values of the latents [b, n, d], by products in `dtype`."""
    normed = layer_norm(latents, weights.key_norm).astype(dtype)
    keys, values = (
        jnp.swapaxes(split_heads(linear(normed, layer), heads), 1, 2)
        for layer in (weights.attention.key, weights.attention.value)
    )
    keys = keys / math.sqrt(keys.shape[-1])
    return Memory(keys.astype(dtype), values)


def decode_dense(weights: Weights, memory: Memory, queries: Tokens, gelu: str) -> jax.Array:
    """Queries, the same for every example, layer by layer: [b, q, k] float32."""
    b, heads, _, e = memory.keys.shape
    cross = weights.cross
    dtype = memory.keys.dtype
    normed = layer_norm(queries.dense(1, dtype)[0], cross.query_norm)
    q = linear(normed, cross.attention.query).astype(dtype).reshape(-1, heads, e)
    logits = jnp.einsum('qhe,bhne->bhqn', q, memory.keys, preferred_element_type=jnp.float32)
    attention = jax.nn.softmax(logits, axis=-1).astype(dtype)
    mixed = jnp.einsum('bhqn,bhne->bqhe', attention, memory.values.astype(dtype))

    x = linear(mixed.reshape(b, len(q), -1), cross.attention.out)
    hidden = linear(layer_norm(x, cross.mlp_norm).astype(dtype), cross.mlp_in)
    hidden = ACTIVATIONS[gelu](hidden).astype(dtype)
    if b * len(q) < len(weights.readout[1]):
        x = x + linear(hidden, cross.mlp_out)
        x = linear(x.astype(dtype), weights.output)
        return linear(x.astype(dtype), weights.readout)
    # The last three layers have no nonlinearity between them: the narrowest comes first.
    tail = compose(weights.output, weights.readout)
    return linear(x.astype(dtype), tail) + linear(hidden, compose_without_bias(cross.mlp_out, tail))


class Tables(NamedTuple):
    """Of one example and modality: what makes the logits of any of its queries.

    Attributes:
        axes: [b, heads, size, n] for each axis of the grid; padding is in the first.
        bias: [b, heads, n].
        inverse: 1 / standard deviation of every query, [*grid].
    """

    axes: tuple[jax.Array, ...]
    bias: jax.Array
    inverse: jax.Array


def make_tables(weights: Weights, memory: Memory, queries: Tokens) -> Tables:
    """q . k = (C x / s * scale + offset) W_q + b_q) . k, taken apart."""
    _, heads, _, e = memory.keys.shape
    (scale, offset), (w, b) = weights.cross.query_norm, weights.cross.attention.query
    keys = memory.keys.astype(jnp.float32)
    w = w.reshape(len(scale), heads, e)
    rows = to_axes(centre(jnp.einsum('bhne,dhe->bhnd', keys, scale[:, None, None] * w)), queries)
    offset = jnp.einsum('d,dhe->he', offset, w) + b.reshape(heads, e)
    bias = jnp.einsum('bhne,he->bhn', keys, offset)
    first, *others = (jnp.swapaxes(table, 2, 3) for table in rows.axes)
    first += rows.constant[:, :, None]
    return Tables((first, *others), bias, inverse_deviation(queries)[0])


def decode_folded(
    weights: Weights, memory: Memory, queries: Tokens, gelu: str, bytes_at_once: int
) -> jax.Array:
    """Queries on a grid, by tables and folded layers, some at a time: [b, q, k] float32."""

    def rebuild(padding, index):
        return dataclasses.replace(queries, padding=padding, index=index)

    def many(weights, memory, padding, index):
        return _answer_in_chunks(weights, memory, rebuild(padding, index), gelu, bytes_at_once)

    def few(weights, memory, padding, index):
        return decode_dense(weights, memory, rebuild(padding, index), gelu)

    answer = jax.custom_vjp(many)
    answer.defvjp(
        lambda *args: jax.vjp(few, *args), lambda pull_back, gradient: pull_back(gradient)
    )
    return answer(weights, memory, queries.padding, queries.index)


def _answer_in_chunks(weights, memory, queries, gelu, bytes_at_once):
    dtype = memory.keys.dtype
    b, heads, n, _ = memory.keys.shape
    tables, folded = make_tables(weights, memory, queries), fold(weights)
    mix = _mix_values if heads == 1 else _mix_outputs
    mixed = mix(folded, memory.values, functools.partial(_attend, tables), dtype)
    folded = folded._replace(first=folded.first.astype(dtype), second=folded.second.astype(dtype))

    def answer(points):
        return finish(folded, *mixed(points), gelu)

    # Twice the logits, z, and twice the hidden layer are alive at once, about.
    floats = 2 * heads * n + len(folded.shift) + 2 * len(folded.first_bias)
    lines, width, points_of = _lines(queries)
    chunk = max(1, bytes_at_once // (4 * b * width * floats))
    chunks = -(-lines // chunk)
    chunk = -(-lines // chunks)

    # A chunk takes every `chunks`-th line, so that a sharded first axis is a part of every chunk.
    # The last ones repeat the last line.
    def answer_chunk(i):
        return answer(points_of(jnp.minimum(i + chunks * jnp.arange(chunk), lines - 1)))

    answers = jax.lax.map(answer_chunk, jnp.arange(chunks))
    answers = answers.reshape(chunks, b, chunk, width, -1).transpose(1, 2, 0, 3, 4)
    return answers.reshape(b, chunk * chunks * width, -1)[:, : queries.count]


def _lines(queries: Tokens) -> tuple:
    """How many lines, how many queries in each, and from lines [l] the `points` of their queries.

    Points are one int array for each axis of the grid; together they broadcast to the queries'
    shape. A line of a whole grid runs along its last axis, the same points for all lines.
    Queries by index, and those with a single axis, are lines of one.
    """
    *outer, last = queries.position.shape
    if queries.index is None and outer:

        def points_of(lines):
            outer_points = jnp.unravel_index(lines[:, None], outer)
            return (*outer_points, jnp.arange(last)[None])

        return math.prod(outer), last, points_of

    indices = queries.axis_indices()
    return queries.count, 1, lambda lines: tuple(index[lines] for index in indices)


def _mix_values(folded, values, attend, dtype):
    """points -> (m z, m (v direct), m) with m the softmax's sum: layer norm takes m out of z.

    The values of one head are folded before the attention, with a column of ones for m.
    """
    wide = values @ folded.mix + folded.shift
    narrow = jnp.concatenate([values @ folded.direct, jnp.ones_like(values[..., :1])], axis=-1)

    def mixed(points):
        weights = attend(points).astype(dtype)
        z, rest = (_sums(weights, x.astype(dtype))[:, 0] for x in (wide, narrow))
        return z, rest[..., :-1], rest[..., -1:]

    return mixed


def _mix_outputs(folded, values, attend, dtype):
    """The same with m = 1, for several heads: folded, the values of all would be wider."""

    def mixed(points):
        weights = attend(points)
        means = _sums(weights.astype(dtype), values.astype(dtype))
        means = means / weights.sum(-1, keepdims=True)
        b, heads, q, e = means.shape
        v = jnp.swapaxes(means, 1, 2).reshape(b, q, heads * e)
        z, direct = (product(v, w.astype(dtype)) for w in (folded.mix, folded.direct))
        return z + folded.shift, direct, jnp.ones((b, q, 1))

    return mixed


def _attend(tables, points):
    """exp(logits - their maximum) of the queries at `points`: [b, heads, q, n], float32."""
    logits = sum(
        jnp.take(table, where, axis=2, mode='clip') for table, where in zip(tables.axes, points)
    )
    b, heads, *shape, n = logits.shape
    inverse = tables.inverse[points][..., None]
    bias = tables.bias.reshape(b, heads, *[1] * len(shape), n)
    logits = (logits * inverse + bias).reshape(b, heads, -1, n)
    return jnp.exp(logits - logits.max(-1, keepdims=True))


def _sums(weights, x):
    """sum_n weights x: [b, heads, q, n] and [b, heads, n, d] to [b, heads, q, d], float32."""
    return jnp.einsum('bhqn,bhnd->bhqd', weights, x, preferred_element_type=jnp.float32)
