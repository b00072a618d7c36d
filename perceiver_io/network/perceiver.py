"""Perceiver IO (paper, section 3 and figure 2): encode, process, decode.

    tokens  [b, m, d']  --cross-attend-->  latents [b, n, d]    read
    latents [b, n, d]   --self-attends-->  latents [b, n, d]    process
    queries [b, q, d''] --cross-attend-->  outputs [b, q, k]    decode

Modules make the weights; `read`, `process` and `decode` compute, in one of two ways with the same
signatures and the same weights: `plain` as the paper describes it, `factored` with a fifth of the
arithmetic. Nothing here depends on which modalities exist.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import haiku as hk
import jax

from perceiver_io.network import attention_weights, plain
from perceiver_io.network.config import ComputeConfig, NetworkConfig
from perceiver_io.network.factored import decoder, encoder
from perceiver_io.network.layers import Affine
from perceiver_io.network.tokens import Tokens
from perceiver_io.network.weights import (
    CrossAttention,
    CrossAttentionWeights,
    DecoderWeights,
    Linear,
    SelfAttention,
    SelfAttentionWeights,
    TrainablePositionEncoding,
)


class Computation(NamedTuple):
    """One way to compute the network's three attentions.

    Attributes:
        read: latents [n, d] and tokens to latents [b, n, d].
        process: latents [b, n, d] to latents [b, n, d].
        decode: queries and latents [b, n, d] to outputs [b, q, k] of each modality.
    """

    read: Callable[
        [jax.Array, Sequence[Tokens], CrossAttentionWeights, NetworkConfig, ComputeConfig],
        jax.Array,
    ]
    process: Callable[[jax.Array, SelfAttentionWeights, NetworkConfig, ComputeConfig], jax.Array]
    decode: Callable[
        [Sequence[Tokens], jax.Array, DecoderWeights, NetworkConfig, ComputeConfig],
        list[jax.Array],
    ]


COMPUTATIONS = {
    'plain': Computation(plain.read, plain.process, plain.decode),
    'exact': Computation(encoder.read, encoder.process, decoder.decode),
}


class PerceiverEncoder(hk.Module):
    """Reads the tokens into the latents, then lets the latents attend to each other.

    With several blocks the same self-attends are applied again (shared weights).
    """

    def __init__(self, config: NetworkConfig, compute: ComputeConfig, name: str = 'encoder'):
        super().__init__(name=name)
        self.config = config
        self.compute = compute
        self.latents = TrainablePositionEncoding(config.latents, config.latent_channels)
        self.cross_attention = CrossAttention(
            config.cross_attention_widening, name='cross_attention'
        )
        self.self_attends = [
            SelfAttention(config.self_attention_widening, name='self_attention')
            for _ in range(config.self_attends)
        ]

    def __call__(self, tokens: Sequence[Tokens]) -> jax.Array:
        """Tokens of every modality, all of one width, to latents [b, n, d], float32."""
        config, compute = self.config, self.compute
        computation = COMPUTATIONS[compute.attention]

        def process(latents: jax.Array, weights: SelfAttentionWeights) -> jax.Array:
            return computation.process(latents, weights, config, compute)

        latents = self.latents()
        reader = self.cross_attention(config.latent_channels, tokens[0].width)
        layers = [layer(config.latent_channels) for layer in self.self_attends]
        process = hk.remat(process) if compute.remat else process

        with jax.named_scope('read'):
            latents = computation.read(latents, tokens, reader, config, compute)
        for number, layer in enumerate(config.blocks * layers):
            with jax.named_scope(f'process_{number}'):
                latents = process(latents, layer)
        return latents

    def attention_weights(self, tokens: Sequence[Tokens], index: jax.Array) -> list[jax.Array]:
        """How much the latents of an index [r] read of every token: [b, r, m] of each modality."""
        weights = self.cross_attention(self.config.latent_channels, tokens[0].width)
        return attention_weights.over_tokens(self.latents()[index], tokens, weights, self.config)


class BasicDecoder(hk.Module):
    """Queries cross-attend to the latents, without a residual; output layer and readouts follow."""

    def __init__(self, config: NetworkConfig, compute: ComputeConfig, name: str = 'basic_decoder'):
        super().__init__(name=name)
        self.config = config
        self.compute = compute

    def __call__(
        self,
        queries: Sequence[Tokens],
        latents: jax.Array,
        readouts: Sequence[Callable[[int], Affine]],
    ) -> list[jax.Array]:
        """Decodes the queries of every modality.

        Args:
            queries: of every modality, all of one width.
            latents: [b, n, d].
            readouts: for each modality, makes the linear layer from an output's width to its k.

        Returns:
            Outputs [b, q, k] of each modality, float32.
        """
        config, compute = self.config, self.compute
        width, channels = queries[0].width, config.decoder_channels
        weights = DecoderWeights(
            cross=CrossAttention(widening=1)(width, config.latent_channels),
            output=Linear(channels, name='output')(width),
            readouts=tuple(readout(channels) for readout in readouts),
        )
        with jax.named_scope('decode'):
            return COMPUTATIONS[compute.attention].decode(
                queries, latents, weights, config, compute
            )

    @hk.experimental.name_like('__call__')
    def attention_weights(self, queries: Sequence[Tokens], latents: jax.Array) -> list[jax.Array]:
        """The attention of queries to every latent: [b, q, n] of each modality."""
        weights = CrossAttention(widening=1)(queries[0].width, self.config.latent_channels)
        return attention_weights.over_latents(queries, latents, weights, self.config)
