"""Haiku modules that make the parameters, with the original's names and initialisers.

Calling a module returns its parameters, float32, and computes nothing. What is computed with them
is in functions (`layers.py`, `attention.py`, `plain.py`, `factored/`), which share these weights.
The names of the modules and the order in which they are called decide the names of the parameters
and their random initial values.
"""

from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp

from perceiver_io.network.layers import Affine


class AttentionWeights(NamedTuple):
    """The four linear layers of an attention."""

    query: Affine
    key: Affine
    value: Affine
    out: Affine


class SelfAttentionWeights(NamedTuple):
    """The weights of a self-attention with its MLP."""

    norm: Affine
    attention: AttentionWeights
    mlp_norm: Affine
    mlp_in: Affine
    mlp_out: Affine


class CrossAttentionWeights(NamedTuple):
    """The weights of a cross-attention with its MLP."""

    query_norm: Affine
    key_norm: Affine
    attention: AttentionWeights
    mlp_norm: Affine
    mlp_in: Affine
    mlp_out: Affine


class DecoderWeights(NamedTuple):
    """The weights of the decoder: cross-attention, output layer, and a readout per modality."""

    cross: CrossAttentionWeights
    output: Affine
    readouts: tuple[Affine, ...]


class Linear(hk.Module):
    """w [in, out] and b [out]; w is drawn by variance scaling over the fan in."""

    def __init__(self, out_channels: int, name: str | None = None):
        super().__init__(name=name)
        self.out_channels = out_channels

    def __call__(self, in_channels: int) -> Affine:
        w_init = hk.initializers.VarianceScaling(1.0)
        w = hk.get_parameter('w', [in_channels, self.out_channels], init=w_init)
        b = hk.get_parameter('b', [self.out_channels], init=jnp.zeros)
        return w, b


class LayerNorm(hk.Module):
    """scale [channels] and offset [channels]."""

    def __call__(self, channels: int) -> Affine:
        scale = hk.get_parameter('scale', [channels], init=jnp.ones)
        offset = hk.get_parameter('offset', [channels], init=jnp.zeros)
        return scale, offset


class MLP(hk.Module):
    """Two linear layers, the hidden one `widening` times as wide as the outer ones."""

    def __init__(self, widening: int, name: str | None = None):
        super().__init__(name=name)
        self.widening = widening

    def __call__(self, channels: int) -> tuple[Affine, Affine]:
        hidden = self.widening * channels
        return Linear(hidden)(channels), Linear(channels)(hidden)


class Attention(hk.Module):
    """The linear layers of an attention whose inner width is that of the keys."""

    def __call__(self, q_width: int, kv_width: int) -> AttentionWeights:
        return AttentionWeights(
            query=Linear(kv_width)(q_width),
            key=Linear(kv_width)(kv_width),
            value=Linear(kv_width)(kv_width),
            out=Linear(q_width)(kv_width),
        )


class SelfAttention(hk.Module):
    """A pre-norm transformer block."""

    def __init__(self, widening: int, name: str | None = None):
        super().__init__(name=name)
        self.widening = widening

    def __call__(self, width: int) -> SelfAttentionWeights:
        return SelfAttentionWeights(
            LayerNorm()(width),
            Attention()(width, width),
            LayerNorm()(width),
            *MLP(self.widening)(width),
        )


class CrossAttention(hk.Module):
    """Queries [..., q_width] that attend to keys [..., kv_width], and an MLP."""

    def __init__(self, widening: int, name: str | None = None):
        super().__init__(name=name)
        self.widening = widening

    def __call__(self, q_width: int, kv_width: int) -> CrossAttentionWeights:
        return CrossAttentionWeights(
            LayerNorm()(q_width),
            LayerNorm()(kv_width),
            Attention()(q_width, kv_width),
            LayerNorm()(q_width),
            *MLP(self.widening)(q_width),
        )


class TrainablePositionEncoding(hk.Module):
    """A learned array [count, channels]: latents, queries, paddings, mask tokens."""

    def __init__(self, count: int, channels: int, name: str | None = None):
        super().__init__(name=name)
        self.shape = [count, channels]

    def __call__(self) -> jax.Array:
        init = hk.initializers.TruncatedNormal(stddev=0.02)
        return hk.get_parameter('pos_embs', self.shape, init=init)
