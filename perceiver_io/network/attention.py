"""Linear layers, layer norm and attention, with the original's names and initialisers.

Parameters are float32. A `dtype` is that of the operands of matrix products, and only of these:
sums, residuals, layer norm and softmax are float32. Shapes use the letters of `clip.py`.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

# Two float32 arrays: w [in, out] and b [out] of a linear layer; scale and offset of a layer norm.
Affine = tuple[jax.Array, jax.Array]

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    'tanh': lambda x: jax.nn.gelu(x, approximate=True),  # the original's
    'exact': lambda x: jax.nn.gelu(x, approximate=False),  # the transformers library's default
}


class Linear(hk.Module):
    """y = x w + b. The initialiser is the original's: variance scaling (fan in) by `init_scale`."""

    def __init__(self, out_channels: int, init_scale: float = 1.0, name: str | None = None):
        super().__init__(name=name)
        self.out_channels = out_channels
        self.init_scale = init_scale

    def parameters(self, in_channels: int) -> Affine:
        """w [in, out] and b [out], float32, for callers that reorder the arithmetic."""
        w_init = hk.initializers.VarianceScaling(self.init_scale)
        w = hk.get_parameter('w', [in_channels, self.out_channels], init=w_init)
        b = hk.get_parameter('b', [self.out_channels], init=jnp.zeros)
        return w, b

    def __call__(self, x: jax.Array) -> jax.Array:
        return linear(x, self.parameters(x.shape[-1]))


def linear(x: jax.Array, weights: Affine) -> jax.Array:
    """x w + b, float32; the product is of x's dtype and summed in float32.

    As a product of two matrices: with [b, n, d] XLA for CPUs transposes the gradient of every
    output to make that of w, a sixth of a self-attention's time.
    """
    w, b = weights
    rows = x.reshape(-1, x.shape[-1])
    y = jnp.dot(rows, w.astype(x.dtype), preferred_element_type=jnp.float32) + b
    return y.reshape(*x.shape[:-1], -1)


class LayerNorm(hk.Module):
    """Layer norm over the last axis; epsilon inside the root, as in the original."""

    EPSILON = 1e-5

    def parameters(self, channels: int) -> Affine:
        """scale [channels] and offset [channels], float32."""
        scale = hk.get_parameter('scale', [channels], init=jnp.ones)
        offset = hk.get_parameter('offset', [channels], init=jnp.zeros)
        return scale, offset

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(x, self.parameters(x.shape[-1]))


def layer_norm(x: jax.Array, weights: Affine) -> jax.Array:
    """Normalised over the last axis, times scale, plus offset; statistics are float32."""
    scale, offset = weights
    x32 = x.astype(jnp.float32)
    centred = x32 - x32.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    normalised = centred * jax.lax.rsqrt(variance + LayerNorm.EPSILON)
    return (normalised * scale + offset).astype(x.dtype)


class AttentionWeights(NamedTuple):
    """The four linear layers of an attention."""

    query: Affine
    key: Affine
    value: Affine
    out: Affine


class CrossAttentionWeights(NamedTuple):
    """All that a cross-attention holds."""

    query_norm: Affine
    key_norm: Affine
    attention: AttentionWeights
    mlp_norm: Affine
    mlp_in: Affine
    mlp_out: Affine


class MLP(hk.Module):
    """Linear, GELU, linear, on every row by itself."""

    def __init__(self, widening: int, gelu: str, dropout: float = 0.0, name: str | None = None):
        super().__init__(name=name)
        self.widening = widening
        self.activation = ACTIVATIONS[gelu]
        self.dropout = dropout

    @hk.experimental.name_like('__call__')
    def parameters(self, channels: int) -> tuple[Affine, Affine]:
        """The weights of the two linear layers."""
        hidden = self.widening * channels
        return Linear(hidden).parameters(channels), Linear(channels).parameters(hidden)

    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = self.activation(Linear(self.widening * channels)(x)).astype(x.dtype)
        return _dropout(Linear(channels)(hidden), self.dropout)


class Attention(hk.Module):
    """Multi-head attention of queries over keys; `by_head` as in `attend_by_head`."""

    def __init__(
        self,
        heads: int,
        qk_channels: int,
        v_channels: int,
        out_channels: int,
        dropout: float = 0.0,
        by_head: bool = False,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.heads = heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels
        self.out_channels = out_channels
        self.attend = attend_by_head if by_head else functools.partial(attend, dropout=dropout)

    @hk.experimental.name_like('__call__')
    def parameters(self, q_width: int, kv_width: int) -> AttentionWeights:
        """The weights for queries [..., q_width] and keys [..., kv_width]."""
        return AttentionWeights(
            query=Linear(self.qk_channels).parameters(q_width),
            key=Linear(self.qk_channels).parameters(kv_width),
            value=Linear(self.v_channels).parameters(kv_width),
            out=Linear(self.out_channels).parameters(self.v_channels),
        )

    def __call__(self, inputs_q: jax.Array, inputs_kv: jax.Array) -> jax.Array:
        """[b, q, d] and [b, m, d'] to [b, q, out_channels], float32."""
        q = Linear(self.qk_channels)(inputs_q)
        k = Linear(self.qk_channels)(inputs_kv)
        v = Linear(self.v_channels)(inputs_kv)
        mixed = self.attend(*[split_heads(x.astype(inputs_q.dtype), self.heads) for x in (q, k, v)])
        return Linear(self.out_channels)(mixed.reshape(*mixed.shape[:2], self.v_channels))


def attend(q: jax.Array, k: jax.Array, v: jax.Array, dropout: float = 0.0) -> jax.Array:
    """softmax(q k / sqrt(d)) v of q [b, q, heads, d], k and v [b, m, heads, d], of q's shape."""
    logits = jnp.einsum('bqhd,bmhd->bhqm', q, k, preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1)
    weights = _dropout(weights, dropout).astype(v.dtype)
    return jnp.einsum('bhqm,bmhd->bqhd', weights, v)


def attend_by_head(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """The same, one head after the other, its weights made again in the backward pass.

    The weights of one head are in memory at a time, for the whole model. On 2 CPU cores, with 4
    examples of 784 latents, value and gradient of a self-attention took two thirds of the time that
    they take with `attend`, of which a third goes into handing out fresh memory for the weights.
    """

    @jax.checkpoint
    def one_head(qkv):
        q, k, v = qkv
        logits = jnp.einsum('bqd,bmd->bqm', q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1).astype(v.dtype)
        return jnp.einsum('bqm,bmd->bqd', weights, v)

    head_first = [jnp.moveaxis(x, 2, 0) for x in (q, k, v)]
    return jnp.moveaxis(jax.lax.map(one_head, head_first), 0, 2)


class SelfAttention(hk.Module):
    """A pre-norm transformer block: attention, then an MLP, each added to its input."""

    def __init__(
        self,
        heads: int,
        widening: int,
        gelu: str,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        by_head: bool = False,
        dtype: jnp.dtype = jnp.float32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.heads = heads
        self.widening = widening
        self.gelu = gelu
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.by_head = by_head
        self.dtype = dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, n, d] to [b, n, d]."""
        d = x.shape[-1]
        normed = LayerNorm()(x).astype(self.dtype)
        attention = Attention(self.heads, d, d, d, self.attention_dropout, self.by_head)
        attended = attention(normed, normed)
        x = x + _dropout(attended, self.dropout)
        normed = LayerNorm()(x).astype(self.dtype)
        return x + MLP(self.widening, self.gelu, self.dropout)(normed)


class CrossAttention(hk.Module):
    """Queries that attend to another array, as wide as that array's rows, then an MLP."""

    def __init__(
        self,
        heads: int,
        widening: int,
        gelu: str,
        *,
        query_residual: bool,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        dtype: jnp.dtype = jnp.float32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        self.heads = heads
        self.widening = widening
        self.gelu = gelu
        self.query_residual = query_residual
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.dtype = dtype

    @hk.experimental.name_like('__call__')
    def parameters(self, q_width: int, kv_width: int) -> CrossAttentionWeights:
        """The weights for queries [..., q_width] and keys [..., kv_width]."""
        attention = Attention(self.heads, kv_width, kv_width, q_width)
        return CrossAttentionWeights(
            LayerNorm().parameters(q_width),
            LayerNorm().parameters(kv_width),
            attention.parameters(q_width, kv_width),
            LayerNorm().parameters(q_width),
            *MLP(self.widening, self.gelu).parameters(q_width),
        )

    def __call__(self, inputs_q: jax.Array, inputs_kv: jax.Array) -> jax.Array:
        """[b, q, d] and [b, m, d'] to [b, q, d]."""
        width = inputs_kv.shape[-1]
        attention = Attention(self.heads, width, width, inputs_q.shape[-1], self.attention_dropout)
        attended = attention(
            LayerNorm()(inputs_q).astype(self.dtype), LayerNorm()(inputs_kv).astype(self.dtype)
        )
        return self.finish(inputs_q, attended)

    @hk.transparent
    def finish(self, inputs_q: jax.Array, attended: jax.Array) -> jax.Array:
        """What follows the attention: residual and MLP."""
        x = _dropout(attended, self.dropout)
        if self.query_residual:
            x = inputs_q + x
        normed = LayerNorm()(x).astype(self.dtype)
        return x + MLP(self.widening, self.gelu, self.dropout)(normed)


def split_heads(x: jax.Array, heads: int) -> jax.Array:
    """[b, m, d] to [b, m, heads, d / heads]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _dropout(x: jax.Array, rate: float) -> jax.Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x
