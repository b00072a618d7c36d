"""Configs of the network: its sizes, and how it is computed."""

import dataclasses
from typing import Literal, Self

from perceiver_io.core.config_values import check_fields
from perceiver_io.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the Perceiver IO network; the defaults are the released model's (original code).

    Attributes:
        latents: n of the bottleneck.
        latent_channels: d of the bottleneck.
        blocks: how often the self-attends are applied, with shared weights.
        self_attends: self-attention layers in a block.
        self_attention_heads: heads of each self-attention.
        cross_attention_heads: heads of the encoder's cross-attention.
        decoder_heads: heads of the decoder's cross-attention.
        self_attention_widening: hidden width over outer width of the self-attends' MLPs.
        cross_attention_widening: the same for the MLP after the encoder's cross-attention.
        decoder_channels: width of the decoder's output, before the readouts of the modalities.
        gelu: 'tanh' (the original) or 'exact' (default of the transformers library).
        dropout: rate in the encoder while training (0 in the released model).
        attention_dropout: the same for attention weights.
    """

    latents: int = 784
    latent_channels: int = 512
    blocks: int = 1
    self_attends: int = 8
    self_attention_heads: int = 8
    cross_attention_heads: int = 1
    decoder_heads: int = 1
    self_attention_widening: int = 1
    cross_attention_widening: int = 1
    decoder_channels: int = 512
    gelu: Literal['tanh', 'exact'] = 'tanh'
    dropout: float = 0.0
    attention_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self, NetworkConfig, at_least={})
        if self.blocks * self.self_attends > 1000:
            raise UserError(
                f'blocks={self.blocks} times self_attends={self.self_attends} must be at most 1000'
            )
        for name in ('self_attention_heads', 'decoder_heads'):
            if self.latent_channels % getattr(self, name):
                raise UserError(
                    f'latent_channels={self.latent_channels} must be divisible by '
                    f'{name}={getattr(self, name)}'
                )
        for name in ('dropout', 'attention_dropout'):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f'{name}={getattr(self, name)} must be in [0, 1)')

    def without_dropout(self) -> Self:
        """The config of evaluation."""
        return dataclasses.replace(self, dropout=0.0, attention_dropout=0.0)


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """How the network is computed. No parameter depends on it.

    Attributes:
        dtype: of the operands of matrix products between activations and weights. Parameters,
            sums, softmax and statistics are float32, and so is the encoder of a reconstruction.
        attention: 'exact' or 'plain': the same function of the same parameters. 'plain' makes every
            token, query, key and value, as the original does; 'exact' reorders the arithmetic and
            needs a fifth of it.
        remat: whether each self-attend's activations are recomputed in the backward pass: a third
            of the memory of these layers for a third more of their arithmetic.
        decode_memory: bytes that the queries decoded at a time may take. Outputs do not depend on
            it beyond rounding. 0 for a value that suits the platform, see `for_platform`.
    """

    dtype: Literal['float32', 'bfloat16'] = 'float32'
    attention: Literal['exact', 'plain'] = 'exact'
    remat: bool = False
    decode_memory: int = 0

    def __post_init__(self) -> None:
        check_fields(self, ComputeConfig, at_least={'decode_memory': 0})

    def for_platform(self, platform: str) -> Self:
        """The config with `decode_memory` chosen for a JAX platform, where it is 0.

        16 MiB for 'cpu', which fit into its caches, and 1 GiB for accelerators.
        """
        memory = self.decode_memory or (2**24 if platform == 'cpu' else 2**30)
        return dataclasses.replace(self, decode_memory=memory)
