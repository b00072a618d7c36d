"""Linear layers, layer norm and attention, with the original's names and initialisers.

Parameters are float32 whatever the activations are; layer-norm statistics and softmax are computed in
float32. Shapes use the letters of `clip.py`.
"""

import math
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp

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

    def parameters(self, in_channels: int) -> tuple[jax.Array, jax.Array]:
        """w [in, out] and b [out], float32, for callers that reorder the arithmetic."""
        w_init = hk.initializers.VarianceScaling(self.init_scale)
        w = hk.get_parameter('w', [in_channels, self.out_channels], init=w_init)
        b = hk.get_parameter('b', [self.out_channels], init=jnp.zeros)
        return w, b

    def __call__(self, x: jax.Array) -> jax.Array:
        w, b = self.parameters(x.shape[-1])
        return x @ w.astype(x.dtype) + b.astype(x.dtype)


class LayerNorm(hk.Module):
    """Layer norm over the last axis; epsilon inside the root, as in the original."""

    EPSILON = 1e-5

    def parameters(self, channels: int) -> tuple[jax.Array, jax.Array]:
        """scale [channels] and offset [channels], float32."""
        scale = hk.get_parameter('scale', [channels], init=jnp.ones)
        offset = hk.get_parameter('offset', [channels], init=jnp.zeros)
        return scale, offset

    def __call__(self, x: jax.Array) -> jax.Array:
        scale, offset = self.parameters(x.shape[-1])
        x32 = x.astype(jnp.float32)
        centred = x32 - x32.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        normalised = centred * jax.lax.rsqrt(variance + self.EPSILON)
        return (normalised * scale + offset).astype(x.dtype)


class MLP(hk.Module):
    """Linear, GELU, linear, on every row by itself."""

    def __init__(self, widening: int, gelu: str, dropout: float = 0.0, name: str | None = None):
        super().__init__(name=name)
        self.widening = widening
        self.activation = ACTIVATIONS[gelu]
        self.dropout = dropout

    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        hidden = self.activation(Linear(self.widening * channels)(x))
        return _dropout(Linear(channels)(hidden), self.dropout)


class Attention(hk.Module):
    """Multi-head attention of queries over keys."""

    def __init__(self, heads: int, qk_channels: int, v_channels: int, out_channels: int,
                 dropout: float = 0.0, name: str | None = None):
        super().__init__(name=name)
        self.heads = heads
        self.qk_channels = qk_channels
        self.v_channels = v_channels
        self.out_channels = out_channels
        self.dropout = dropout

    def __call__(self, inputs_q: jax.Array, inputs_kv: jax.Array) -> jax.Array:
        """[b, q, d] and [b, m, d'] to [b, q, out_channels]."""
        q = _split_heads(Linear(self.qk_channels)(inputs_q), self.heads)
        k = _split_heads(Linear(self.qk_channels)(inputs_kv), self.heads)
        v = _split_heads(Linear(self.v_channels)(inputs_kv), self.heads)

        logits = jnp.einsum('bqhd,bmhd->bhqm', q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1)
        weights = _dropout(weights, self.dropout).astype(v.dtype)
        mixed = jnp.einsum('bhqm,bmhd->bqhd', weights, v)
        return Linear(self.out_channels)(mixed.reshape(*mixed.shape[:2], self.v_channels))


class SelfAttention(hk.Module):
    """A pre-norm transformer block: attention, then an MLP, each added to its input."""

    def __init__(self, heads: int, widening: int, gelu: str, dropout: float = 0.0,
                 attention_dropout: float = 0.0, name: str | None = None):
        super().__init__(name=name)
        self.heads = heads
        self.widening = widening
        self.gelu = gelu
        self.dropout = dropout
        self.attention_dropout = attention_dropout

    def __call__(self, x: jax.Array) -> jax.Array:
        """[b, n, d] to [b, n, d]."""
        d = x.shape[-1]
        normed = LayerNorm()(x)
        attended = Attention(self.heads, d, d, d, self.attention_dropout)(normed, normed)
        x = x + _dropout(attended, self.dropout)
        return x + MLP(self.widening, self.gelu, self.dropout)(LayerNorm()(x))


class CrossAttention(hk.Module):
    """Queries that attend to another array, as wide as that array's rows, then an MLP."""

    def __init__(self, heads: int, widening: int, gelu: str, *, query_residual: bool,
                 dropout: float = 0.0, attention_dropout: float = 0.0, name: str | None = None):
        super().__init__(name=name)
        self.heads = heads
        self.widening = widening
        self.gelu = gelu
        self.query_residual = query_residual
        self.dropout = dropout
        self.attention_dropout = attention_dropout

    def __call__(self, inputs_q: jax.Array, inputs_kv: jax.Array) -> jax.Array:
        """[b, q, d] and [b, m, d'] to [b, q, d]."""
        width = inputs_kv.shape[-1]
        attention = Attention(
            self.heads, width, width, inputs_q.shape[-1], self.attention_dropout)
        x = _dropout(attention(LayerNorm()(inputs_q), LayerNorm()(inputs_kv)), self.dropout)
        if self.query_residual:
            x = inputs_q + x
        return x + MLP(self.widening, self.gelu, self.dropout)(LayerNorm()(x))


def _split_heads(x: jax.Array, heads: int) -> jax.Array:
    """[b, m, d] to [b, m, heads, d / heads]."""
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


def _dropout(x: jax.Array, rate: float) -> jax.Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x
