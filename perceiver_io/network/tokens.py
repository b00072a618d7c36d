"""Tokens and queries as a structure of three parts: [data | position | padding].

An input token consists of the values of a patch, its position code, and a learned padding up to the
width that all modalities share. A query consists of the last two. Position and padding are the same
for every example, and are kept apart from the data; `dense` joins the parts into one array.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from perceiver_io.network.position_encoding import LINSPACE, FourierPositionEncoding, Grid


@dataclasses.dataclass(frozen=True)
class Tokens:
    """The tokens, or the queries, of one modality.

    Attributes:
        data: [b, m, c] values; [m, c] where they are learned, the same for every example; or None.
        position: the grid that the tokens lie on, or None.
        grid: the kind of grid, see `position_encoding.grid`.
        index: int [m], which points of the grid these are; None for all of them.
        padding: [p], learned, the same for every token; None for none.
        masked: bool [b], the examples whose tokens are all replaced by `mask_token`; None for none.
        mask_token: [d], learned, d = c + position channels + p.
    """

    data: jax.Array | None = None
    position: FourierPositionEncoding | None = None
    grid: Grid = LINSPACE
    index: jax.Array | None = None
    padding: jax.Array | None = None
    masked: jax.Array | None = None
    mask_token: jax.Array | None = None

    @property
    def count(self) -> int:
        """m."""
        if self.index is not None:
            return self.index.shape[0]
        return self.on_grid.size if self.data is None else self.data.shape[-2]

    @property
    def on_grid(self) -> FourierPositionEncoding:
        """`position`, for tokens that have one."""
        if self.position is None:
            raise ValueError('these tokens have no position')
        return self.position

    @property
    def width(self) -> int:
        """d."""
        parts = [part.shape[-1] for part in (self.data, self.padding) if part is not None]
        return sum(parts) + (self.position.channels if self.position is not None else 0)

    def dense(self, batch: int, dtype: DTypeLike) -> jax.Array:
        """[b, m, d] with b = `batch`."""
        parts = []
        if self.data is not None:
            parts.append(self.data)
        if self.position is not None:
            code = (
                jnp.asarray(self.position.dense(self.grid))
                if self.index is None
                else self._gathered_position()
            )
            parts.append(code)
        if self.padding is not None:
            parts.append(jnp.broadcast_to(self.padding, (self.count, self.padding.shape[0])))
        x = jnp.concatenate(
            [jnp.broadcast_to(part.astype(dtype), (batch, *part.shape[-2:])) for part in parts],
            axis=-1,
        )
        if self.masked is not None:
            assert self.mask_token is not None
            x = jnp.where(self.masked[:, None, None], self.mask_token.astype(dtype), x)
        return x

    def axis_indices(self) -> tuple[jax.Array, ...]:
        """Index of every token along each axis of the grid: one int [m] for each axis."""
        index = jnp.arange(self.on_grid.size) if self.index is None else self.index
        return jnp.unravel_index(index, self.on_grid.shape)

    def _gathered_position(self) -> jax.Array:
        """[m, position channels] for the points of `index`, without the whole grid's code."""
        position = self.on_grid
        code = jnp.zeros((self.count, position.channels), jnp.float32)
        tables = position.tables(self.grid)
        for axis, (table, where) in enumerate(zip(tables, self.axis_indices())):
            code = code.at[:, position.axis_channels(axis)].set(jnp.asarray(table)[where])
        return code


def batch_size(parts: Sequence[Tokens]) -> int:
    """b of input tokens, of which at least one modality has data [b, m, c]."""
    return next(
        part.data.shape[0] for part in parts if part.data is not None and part.data.ndim == 3
    )


def join(parts: Sequence[Tokens], batch: int, dtype: DTypeLike) -> jax.Array:
    """All tokens of all modalities in one array, [b, m, d]."""
    return jnp.concatenate([part.dense(batch, dtype) for part in parts], axis=1)
