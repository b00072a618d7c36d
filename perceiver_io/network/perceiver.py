"""Perceiver IO (paper, section 3 and figure 2): encode, process, decode.

    tokens  [b, m, d']  --cross-attend-->  latents [b, n, d]
    latents [b, n, d]   --self-attends-->  latents [b, n, d]
    queries [b, q, d''] --cross-attend-->  outputs [b, q, channels]

Nothing here knows which modality it has. Modules and their names are the original's.
"""

from collections.abc import Sequence

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.network.attention import CrossAttention, Linear, SelfAttention
from perceiver_io.network.factored.encoder import TokenCrossAttention
from perceiver_io.network.tokens import Tokens, join


class TrainablePositionEncoding(hk.Module):
    """A learned array [count, channels]: latents, queries, paddings, mask tokens."""

    def __init__(self, count: int, channels: int, name: str | None = None):
        super().__init__(name=name)
        self.shape = [count, channels]

    def __call__(self) -> jax.Array:
        init = hk.initializers.TruncatedNormal(stddev=0.02)
        return hk.get_parameter('pos_embs', self.shape, init=init)


class PerceiverEncoder(hk.Module):
    """Reads the tokens into the latents, then lets the latents attend to each other.

    With several blocks the same self-attends are applied again (shared weights).
    """

    def __init__(
        self,
        *,
        latents: int,
        latent_channels: int,
        blocks: int,
        self_attends: int,
        cross_heads: int,
        self_heads: int,
        cross_widening: int,
        self_widening: int,
        gelu: str,
        dropout: float,
        attention_dropout: float,
        dtype: jnp.dtype,
        exact: bool,
        remat: bool,
        name: str = 'encoder',
    ):
        super().__init__(name=name)
        common = dict(gelu=gelu, dropout=dropout, attention_dropout=attention_dropout, dtype=dtype)
        self.blocks = blocks
        self.remat = remat
        self.latents = TrainablePositionEncoding(latents, latent_channels)
        read = TokenCrossAttention if exact else DenseCrossAttention
        self.cross_attention = read(
            cross_heads, cross_widening, query_residual=True, **common, name='cross_attention'
        )
        self.self_attends = [
            SelfAttention(self_heads, self_widening, **common, by_head=exact, name='self_attention')
            for _ in range(self_attends)
        ]

    def __call__(self, tokens: Sequence[Tokens], batch: int) -> jax.Array:
        """Tokens of every modality to latents [b, n, d], float32."""
        latents = self.latents()
        latents = self.cross_attention(latents, tokens, batch)
        for _ in range(self.blocks):
            for self_attend in self.self_attends:
                latents = hk.remat(self_attend)(latents) if self.remat else self_attend(latents)
        return latents


class DenseCrossAttention(CrossAttention):
    """`CrossAttention` of learned latents over the tokens as one array: the plain path."""

    def __call__(self, latents: jax.Array, tokens: Sequence[Tokens], batch: int) -> jax.Array:
        """Latents [n, d] and the tokens of every modality to [b, n, d] with b = `batch`."""
        latents = jnp.broadcast_to(latents, (batch, *latents.shape))
        return super().__call__(latents, join(tokens, batch, self.dtype))


class BasicDecoder(hk.Module):
    """Asks the latents: queries cross-attend to them, without a residual, then a linear layer."""

    def __init__(
        self, *, channels: int, heads: int, gelu: str, dtype: jnp.dtype, name: str = 'basic_decoder'
    ):
        super().__init__(name=name)
        self.channels = channels
        self.heads = heads
        self.gelu = gelu
        self.dtype = dtype

    def __call__(
        self, queries: Sequence[Tokens], latents: jax.Array, readouts: Sequence[Linear]
    ) -> list[jax.Array]:
        """Queries of every modality and latents [b, n, d] to answers [b, q, k] of each, float32."""
        dtype = self.dtype
        cross_attention = CrossAttention(
            self.heads, widening=1, gelu=self.gelu, query_residual=False, dtype=dtype
        )
        x = cross_attention(join(queries, len(latents), dtype), latents)
        outputs = Linear(self.channels, name='output')(x.astype(dtype)).astype(dtype)
        ends = np.cumsum([part.count for part in queries])
        return [
            readout(output)
            for readout, output in zip(readouts, jnp.split(outputs, ends[:-1], axis=1))
        ]
