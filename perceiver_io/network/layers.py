"""Functions of a network's layers: matrix products, linear layers, layer norm, MLP, dropout.

Precision. Parameters are float32. A `dtype` is that of the operands of matrix products; sums,
residuals, layer norm and softmax are float32. All matrix products of the network go through
`matmul` and `einsum` of this file, the only place that says what a dtype means on a backend:

    float32   products of float32 numbers, in the forward and in the backward pass: never bfloat16
              (default of TPUs) nor TF32 (default of GPUs)
    bfloat16  products of bfloat16 numbers, summed in float32; gradients of weights are float32,
              also while devices sum them (`einsum_with_weights`)

Shapes use the letters of `core/clip.py`.
"""

import functools
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# Two float32 arrays: w [in, out] and b [out] of a linear layer; scale and offset of a layer norm.
Affine = tuple[jax.Array, jax.Array]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'tanh': lambda x: jax.nn.gelu(x, approximate=True),
    'exact': lambda x: jax.nn.gelu(x, approximate=False),
}

EPSILON = 1e-5  # of layer norm, inside the root, as in the original


def _precision(*operands: jax.Array | np.ndarray) -> jax.lax.Precision:
    in_float32 = all(operand.dtype == jnp.float32 for operand in operands)
    return jax.lax.Precision.HIGHEST if in_float32 else jax.lax.Precision.DEFAULT


def matmul(x: jax.Array, w: jax.Array | np.ndarray) -> jax.Array:
    """x w: [..., i, j] and [j, k] to [..., i, k], float32."""
    return jnp.matmul(x, w, precision=_precision(x, w), preferred_element_type=jnp.float32)


def einsum(
    subscripts: str, x: jax.Array, y: jax.Array, dtype: DTypeLike = jnp.float32
) -> jax.Array:
    """`jnp.einsum` of two operands with a result of `dtype`."""
    return jnp.einsum(
        subscripts, x, y, precision=_precision(x, y), preferred_element_type=jnp.dtype(dtype)
    )


def einsum_with_weights(subscripts: str, x: jax.Array, weights: jax.Array) -> jax.Array:
    """`einsum` of x and of weights that are rounded to x's dtype, float32.

    JAX's gradient of rounded weights has their dtype: devices would sum it in bfloat16. Here it is
    float32.

    Args:
        subscripts: of x, the weights and the result; each index is in two of them or more.
        x: float32 or bfloat16.
        weights: float32, the same for every example.
    """
    if x.dtype == jnp.float32:
        return einsum(subscripts, x, weights)
    return _einsum_with_rounded_weights(subscripts, x, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _einsum_with_rounded_weights(subscripts: str, x: jax.Array, weights: jax.Array) -> jax.Array:
    return einsum(subscripts, x, weights.astype(x.dtype))


def _rounded_forward(subscripts: str, x: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple]:
    return _einsum_with_rounded_weights(subscripts, x, weights), (x, weights)


def _rounded_backward(
    subscripts: str, saved: tuple, gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, weights = saved
    operands, of_result = subscripts.split('->')
    of_x, of_weights = operands.split(',')
    gradient = gradient.astype(x.dtype)
    to_x = einsum(f'{of_result},{of_weights}->{of_x}', gradient, weights.astype(x.dtype))
    to_weights = einsum(f'{of_x},{of_result}->{of_weights}', x, gradient)
    return to_x.astype(x.dtype), to_weights


_einsum_with_rounded_weights.defvjp(_rounded_forward, _rounded_backward)


def linear(x: jax.Array, weights: Affine) -> jax.Array:
    """x w + b: [..., in] to [..., out], float32; the product is of x's dtype.

    Computed as a product of two matrices: for an operand [b, n, d], XLA's gradient of w on CPUs
    transposes the gradient of every output first.
    """
    w, b = weights
    rows = x.reshape(-1, x.shape[-1])
    y = einsum_with_weights('ij,jk->ik', rows, w) + b
    return y.reshape(*x.shape[:-1], -1)


def compose(first: Affine, second: Affine) -> Affine:
    """The linear layer that does `first`, then `second`."""
    w, b = compose_without_bias(first, second)
    return w, b + second[1]


def compose_without_bias(first: Affine, second: Affine) -> Affine:
    """The same without the bias of `second`."""
    return matmul(first[0], second[0]), matmul(first[1], second[0])


def layer_norm(x: jax.Array, weights: Affine) -> jax.Array:
    """Normalises [..., d] over the last axis, times scale, plus offset; in x's dtype."""
    scale, offset = weights
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    normalised = centred * jax.lax.rsqrt(variance + EPSILON)
    return (normalised * scale + offset).astype(x.dtype)


def mlp(x: jax.Array, first: Affine, second: Affine, gelu: str, rate: float = 0.0) -> jax.Array:
    """Linear, GELU, linear, dropout: [..., d] to [..., d], float32."""
    hidden = ACTIVATIONS[gelu](linear(x, first)).astype(x.dtype)
    return dropout(linear(hidden, second), rate)


def dropout(x: jax.Array, rate: float) -> jax.Array:
    """Sets a share `rate` of x to zero and scales the rest; takes a key of Haiku's if rate > 0."""
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """[b, m, d] to [b, m, heads, d / heads]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)
