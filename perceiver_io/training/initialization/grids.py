"""The tokens and queries of a model as the layer norms before the cross-attentions leave them."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import PARAMETER_NAMES
from perceiver_io.network import position_encoding
from perceiver_io.network.position_encoding import LINSPACE, SUBSAMPLED, FourierPositionEncoding

Arrays = Mapping[str, Mapping[str, np.ndarray]]  # parameters: {module: {name: array}}

_CHUNK = 8192  # points made at a time
# Values of a token are assumed to vary by this much together, and as much each by itself.
_DEVIATION = 0.18

_TOKEN_PADDING = 'multimodal_preprocessor/{}_padding'
_QUERY_PADDING = 'multimodal_decoder/~decoder_query/{}_padding'


@dataclasses.dataclass(frozen=True)
class Grid:
    """The tokens, or the queries, of a modality that has positions.

    Attributes:
        position: the position codes.
        kind: of the position grid.
        values: channels of a token's values, which come before the code; 0 for queries.
        mean: of these values.
        padding: [p], the learned padding, which comes after the code.
    """

    position: FourierPositionEncoding
    kind: position_encoding.Grid
    values: int
    mean: float
    padding: np.ndarray

    @property
    def width(self) -> int:
        """d."""
        return self.values + self.position.channels + len(self.padding)

    def places(self, index: np.ndarray) -> np.ndarray:
        """The places [m, axes] of the points `index` [m]."""
        where = np.unravel_index(index, self.position.shape)
        centres = [(2 * i + 1) / size - 1 for i, size in zip(where, self.position.shape)]
        return np.stack(centres, axis=1)

    def rows(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The points `index` [m], with random values, after the layer norm: [m, d]."""
        m = len(index)
        noise = rng.standard_normal((m, self.values)) + rng.standard_normal((m, 1))
        code = np.empty((m, self.position.channels))
        where = np.unravel_index(index, self.position.shape)
        for axis, table in enumerate(self.position.tables(self.kind)):
            code[:, self.position.axis_channels(axis)] = table[where[axis]]
        padding = np.broadcast_to(self.padding, (m, len(self.padding)))
        return normalize(np.concatenate([self.mean + _DEVIATION * noise, code, padding], axis=1))

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """The indices of `count` points; if there are fewer, of all, several times for tokens."""
        size = self.position.size
        if size > count:
            return np.sort(rng.choice(size, count, False))
        return np.tile(np.arange(size), -(-count // size) if self.values else 1)

    def chunks(self) -> list[np.ndarray]:
        """The indices of all points, in arrays of limited size."""
        size = self.position.size
        return np.array_split(np.arange(size), -(-size // _CHUNK))


def normalize(x: np.ndarray) -> np.ndarray:
    """A fresh layer norm's output for rows [m, d]."""
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + 1e-5)


def token_grids(params: Arrays, config: AutoencoderConfig, video_mean: float) -> dict[str, Grid]:
    """The tokens by modality; `video_mean` is the mean of the pixels."""
    values = {
        'audio': (config.audio_position, config.audio_patch, 0.0),
        'video': (
            config.video_tokens_position,
            math.prod(config.video_patch) * config.channels,
            video_mean,
        ),
    }
    return {
        name: Grid(position, LINSPACE, count, mean, _row(params, _TOKEN_PADDING, name))
        for name, (position, count, mean) in values.items()
        if name in config.modalities
    }


def query_grids(params: Arrays, config: AutoencoderConfig) -> dict[str, Grid]:
    """The queries by modality."""
    positions = {'audio': config.audio_position, 'video': config.video_query_position}
    return {
        name: Grid(position, SUBSAMPLED, 0, 0.0, _row(params, _QUERY_PADDING, name))
        for name, position in positions.items()
        if name in config.modalities
    }


def label_tokens(params: Arrays, config: AutoencoderConfig) -> np.ndarray:
    """The label's token of each class, and of a hidden label, after the layer norm [k + 1, d]."""
    padding = _row(params, _TOKEN_PADDING, 'label')
    hidden = _row(params, 'multimodal_preprocessor/{}_mask_token', 'label')
    classes = np.pad(np.eye(config.classes), ((0, 0), (0, len(padding))))
    classes[:, config.classes :] = padding
    return normalize(np.concatenate([classes, hidden[None]]))


def label_queries(params: Arrays) -> np.ndarray:
    """The label's only query, after the layer norm: [1, d]."""
    query = params['classification_decoder/~/basic_decoder/~/trainable_position_encoding']
    padding = _row(params, _QUERY_PADDING, 'label')
    return normalize(np.concatenate([query['pos_embs'][0], padding])[None])


def _row(params: Arrays, module: str, modality: str) -> np.ndarray:
    return params[module.format(PARAMETER_NAMES[modality])]['pos_embs'][0]
