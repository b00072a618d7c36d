"""Tokens and queries as a structure: [data | position | padding], the way the model makes them.

An input token is a patch's values, then the code of its place, then a learned padding up to the
width common to all modalities. A query is the same without the values. Kept apart, the parts that
no example changes stay small; `dense` joins them into the array that the original works on.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from perceiver_io.network.position_encoding import FourierPositionEncoding


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens, or the queries, of one modality.

    Attributes:
        data: [b, m, c] values; [m, c] where they are learned, the same for every example; or None.
        position: the grid that the tokens lie on, or None.
        grid: which of the two position grids, LINSPACE or SUBSAMPLED.
        index: int [m], which points of the grid these are; None for all of them.
        padding: [p], learned, the same for every token; None for none.
        masked: bool [b], the examples whose tokens are all replaced by `mask_token`; None for none.
        mask_token: [d], learned, d = c + position channels + p.
    """

    data: jax.Array | None = None
    position: FourierPositionEncoding | None = None
    grid: str | None = None
    index: jax.Array | None = None
    padding: jax.Array | None = None
    masked: jax.Array | None = None
    mask_token: jax.Array | None = None

    @property
    def count(self) -> int:
        """m."""
        if self.index is not None:
            return self.index.shape[0]
        return self.position.size if self.data is None else self.data.shape[-2]

    @property
    def width(self) -> int:
        """d."""
        parts = [part.shape[-1] for part in (self.data, self.padding) if part is not None]
        return sum(parts) + (self.position.channels if self.position is not None else 0)

    def dense(self, batch: int, dtype: jnp.dtype) -> jax.Array:
        """[b, m, d] with b = `batch`."""
        parts = []
        if self.data is not None:
            parts.append(self.data)
        if self.position is not None:
            code = (
                jnp.asarray(self.position.dense(self.grid))
                if self.index is None
                else (self._gathered_position())
            )
            parts.append(code)
        if self.padding is not None:
            parts.append(jnp.broadcast_to(self.padding, (self.count, self.padding.shape[0])))
        x = jnp.concatenate(
            [jnp.broadcast_to(part.astype(dtype), (batch, *part.shape[-2:])) for part in parts],
            axis=-1,
        )
        if self.masked is not None:
            x = jnp.where(self.masked[:, None, None], self.mask_token.astype(dtype), x)
        return x

    def axis_indices(self) -> tuple[jax.Array, ...]:
        """For each axis of the grid, int [m]: where along it each of the tokens lies."""
        index = jnp.arange(self.position.size) if self.index is None else self.index
        return jnp.unravel_index(index, self.position.shape)

    def _gathered_position(self) -> jax.Array:
        """[m, position channels] for the points of `index`, without the whole grid's code."""
        code = jnp.zeros((self.count, self.position.channels), jnp.float32)
        tables = self.position.tables(self.grid)
        for axis, (table, where) in enumerate(zip(tables, self.axis_indices())):
            code = code.at[:, self.position.axis_channels(axis)].set(jnp.asarray(table)[where])
        return code


def join(parts: Sequence[Tokens], batch: int, dtype: jnp.dtype) -> jax.Array:
    """All tokens of all modalities in one array, [b, m, d]."""
    return jnp.concatenate([part.dense(batch, dtype) for part in parts], axis=1)
