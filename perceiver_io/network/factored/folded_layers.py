"""The decoder's layers after the attention, folded into fewer and narrower ones.

The attention's output goes through a linear layer, a layer norm, two linear layers with a GELU
between them, and two more to the model's output. All but the last are as wide as a query. The GELU
is the only nonlinearity apart from the layer norm's division, so that products of the weight
matrices can be computed once, before the queries. The folded layers are as wide as a value of the
attention or as the model's output. Folding costs as much as some thousand queries. It has no safe
derivative where weights lose rank. It is not in the paper.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from perceiver_io.network.factored.inner_products import centre
from perceiver_io.network.layers import (
    ACTIVATIONS,
    EPSILON,
    Affine,
    compose,
    compose_without_bias,
    matmul,
)
from perceiver_io.network.weights import CrossAttentionWeights

# The hidden layer is computed in two parts: the largest multiple of this width, and the rest. CPUs
# multiply matrices of 1,024 columns faster than of 1,026.
EVEN = 128


class QueryWeights(NamedTuple):
    """The weights that a query of one modality is decoded with."""

    cross: CrossAttentionWeights
    output: Affine
    readout: Affine


class Folded(NamedTuple):
    """The layers after the attention, folded around the GELU.

    Let v be the output of the attention, x = v W_o + b_o, and s the standard deviation of x. Then

        z = v mix + shift               x minus its mean, over sqrt(d), in a basis of W_o's rows
        s^2 = |z|^2 + rest              rest: the part of b_o outside of that space, and epsilon
        output = v direct + gelu((z first + first_bias) / s + second_bias) second + constant
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


def fold(weights: QueryWeights) -> Folded:
    """Folds the layers, in float32 whatever the dtype of the activations is."""
    cross = weights.cross
    (w_o, b_o), (w_1, b_1) = cross.attention.out, cross.mlp_in
    scale, offset = cross.mlp_norm
    root = math.sqrt(len(b_o))
    basis = orthonormal_rows(centre(w_o))
    shift = matmul(basis, centre(b_o))
    outside = centre(b_o) - matmul(shift, basis)
    tail = compose(weights.output, weights.readout)
    direct, b_direct = compose(cross.attention.out, tail)
    second, b_second = compose_without_bias(cross.mlp_out, tail)
    return Folded(
        mix=matmul(centre(w_o), basis.T) / root,
        direct=direct,
        shift=shift / root,
        rest=jnp.square(outside).mean() + EPSILON,
        first=matmul(basis, scale[:, None] * w_1) * root,
        first_bias=matmul(outside * scale, w_1),
        second_bias=matmul(offset, w_1) + b_1,
        second=second,
        constant=b_direct + b_second,
    )


def orthonormal_rows(w: jax.Array) -> jax.Array:
    """U of the polar decomposition w = P U: w U^T U = w, and |v w U^T| = |v w| for every v.

    Computed by the Newton-Schulz iteration, which consists of matrix products only: LAPACK's QR can
    take seconds for this matrix on a busy CPU. w may lack rank: 30 steps bring singular values down
    to 1e-5 of the largest to 1, and smaller ones do not contribute to w.

    Args:
        w: [i, j] with i <= j.

    Returns:
        [i, j].
    """
    tiny = jnp.finfo(w.dtype).tiny
    u = w / jnp.maximum(jnp.linalg.norm(w), tiny)
    u = u / jnp.maximum(jnp.sqrt(jnp.linalg.norm(matmul(u, u.T))), tiny)  # the largest at most 1

    def step(_: int, u: jax.Array) -> jax.Array:
        return 1.5 * u - matmul(0.5 * matmul(u, u.T), u)

    return jax.lax.fori_loop(0, 30, step, u)


def finish(folded: Folded, z: jax.Array, direct: jax.Array, m: jax.Array, gelu: str) -> jax.Array:
    """Applies the layers to attention outputs that are scaled by m, which cancels.

    Args:
        folded: the layers.
        z: m z, [b, q, z].
        direct: m (v direct), [b, q, k].
        m: any positive scale, [b, q, 1].
        gelu: which GELU.

    Returns:
        [b, q, k], float32.
    """
    inverse = jax.lax.rsqrt(jnp.square(z).sum(-1, keepdims=True) + folded.rest * jnp.square(m))

    def through(hidden: slice) -> jax.Array:
        x = matmul(z.astype(folded.first.dtype), folded.first[:, hidden])
        x = (x + folded.first_bias[hidden] * m) * inverse + folded.second_bias[hidden]
        x = ACTIVATIONS[gelu](x).astype(folded.second.dtype)
        return matmul(x, folded.second[hidden])

    even = len(folded.second) // EVEN * EVEN
    outputs = through(slice(0, even)) + through(slice(even, None))
    return outputs + direct / m + folded.constant
