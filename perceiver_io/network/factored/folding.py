"""A decoder's layers after the attention, folded into each other around their one GELU.

What the attention returns goes through a linear layer, a layer norm, two linear layers with the
GELU between them, and two more to the answer: each as wide as a query, but for the last. Folded
they are fewer, and as wide as a value or as the answer. Folding costs as much as some thousand
queries, and has no safe derivative where weights lose rank. All of this is ours.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceiver_io.network.attention import ACTIVATIONS, Affine, CrossAttentionWeights, LayerNorm
from perceiver_io.network.factored.separable import centre

# The hidden layer, 1,026 wide, is taken as a multiple of this and the rest: on 2 CPU cores a
# product of 1,024 columns ran at 0.34 TFLOP/s and one of 1,026 at 0.29.
EVEN = 128


class Weights(NamedTuple):
    """Everything that a query of one modality goes through."""

    cross: CrossAttentionWeights
    output: Affine
    readout: Affine


class Folded(NamedTuple):
    """The layers after the attention, folded around the GELU.

    With v what the attention returns, x = v W_o + b_o and s the standard deviation of x,

        z = v mix + shift               x less its mean, over sqrt(d), in a basis of W_o's row space
        s^2 = |z|^2 + rest              rest: what b_o has outside of that space, and epsilon
        answer = v direct + gelu((z first + first_bias) / s + second_bias) second + constant
    """

    mix: jax.Array  # [v channels, z]
    direct: jax.Array  # [v channels, k]
    shift: jax.Array  # [z]
    rest: jax.Array  # []
    first: jax.Array  # [z, hidden]
    first_bias: jax.Array  # [hidden]
    second_bias: jax.Array  # [hidden]
    second: jax.Array  # [hidden, k]
    constant: jax.Array  # [k]


def fold(weights: Weights) -> Folded:
    """In float32 at the highest precision, whatever the activations are: once, not per query."""
    with jax.default_matmul_precision('highest'):
        cross = weights.cross
        (w_o, b_o), (w_1, b_1) = cross.attention.out, cross.mlp_in
        scale, offset = cross.mlp_norm
        root = math.sqrt(len(b_o))
        basis = orthonormal_rows(centre(w_o))
        shift = basis @ centre(b_o)
        outside = centre(b_o) - shift @ basis
        tail = compose(weights.output, weights.readout)
        direct, b_direct = compose(cross.attention.out, tail)
        second, b_second = compose_without_bias(cross.mlp_out, tail)
        return Folded(
            mix=centre(w_o) @ basis.T / root,
            direct=direct,
            shift=shift / root,
            rest=jnp.square(outside).mean() + LayerNorm.EPSILON,
            first=basis @ (scale[:, None] * w_1) * root,
            first_bias=(outside * scale) @ w_1,
            second_bias=offset @ w_1 + b_1,
            second=second,
            constant=b_direct + b_second,
        )


def orthonormal_rows(w: jax.Array) -> jax.Array:
    """U of w's polar decomposition w = P U: w U^T U = w and |v w U^T| = |v w| for every v.

    By the Newton-Schulz iteration: products only, where LAPACK's QR took 0.1 to 7 s for this matrix
    on a busy CPU. It needs no rank: 30 steps carry singular values down to 1e-5 of the largest to
    1, and what stays below is of no weight in w.
    """
    with jax.default_matmul_precision('highest'):
        tiny = jnp.finfo(w.dtype).tiny
        u = w / jnp.maximum(jnp.linalg.norm(w), tiny)
        u = u / jnp.maximum(jnp.sqrt(jnp.linalg.norm(u @ u.T)), tiny)  # the largest at most 1
        return jax.lax.fori_loop(0, 30, lambda _, u: 1.5 * u - 0.5 * (u @ u.T) @ u, u)


def finish(folded: Folded, z: jax.Array, direct: jax.Array, m: jax.Array, gelu: str) -> jax.Array:
    """From m z [b, q, z], m (v direct) [b, q, k] and m [b, q, 1] to answers [b, q, k]."""
    inverse = jax.lax.rsqrt(jnp.square(z).sum(-1, keepdims=True) + folded.rest * jnp.square(m))

    def through(hidden: slice) -> jax.Array:
        x = product(z, folded.first[:, hidden])
        x = (x + folded.first_bias[hidden] * m) * inverse + folded.second_bias[hidden]
        return product(ACTIVATIONS[gelu](x), folded.second[hidden])

    even = len(folded.second) // EVEN * EVEN
    answer = sum(through(part) for part in (slice(0, even), slice(even, None)))
    return answer + direct / m + folded.constant


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x w, float32, the product itself in w's dtype."""
    return jnp.dot(x.astype(w.dtype), w, preferred_element_type=jnp.float32)


def compose(first: Affine, second: Affine) -> Affine:
    """The linear layer that does `first`, then `second`."""
    w, b = compose_without_bias(first, second)
    return w, b + second[1]


def compose_without_bias(first: Affine, second: Affine) -> Affine:
    """The same without `second`'s bias."""
    return first[0] @ second[0], first[1] @ second[0]
