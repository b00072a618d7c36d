"""Where each latent is placed, and the features that stand for a place.

A place is a point of [-1, 1] for each axis of a modality: (t, y, x) of the video, the time of the
audio. Patches and pixels are at the centres of equal cells, and latents too unless `time_ends`.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from perceiver_io.core.errors import UserError
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.models.modalities import PARAMETER_NAMES
from perceiver_io.training.initialization.placement import Placement


@dataclasses.dataclass(frozen=True)
class Places:
    """The places of a modality's latents.

    Attributes:
        points: [n, axes].
        axes: the different coordinates of the latents' grid, along each axis.
    """

    points: np.ndarray
    axes: tuple[np.ndarray, ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """How many different coordinates there are along each axis."""
        return tuple(map(len, self.axes))


def latent_places(config: AutoencoderConfig, placement: Placement) -> dict[str, Places]:
    """The places of all latents, by modality, in the order of the latents.

    The video gets a grid of as many latents as `audio_share` leaves; the audio gets the others, at
    equal distances. Without audio, latents that do not fill the video's grid get smaller grids of
    their own. The label gets none: its token has no place, and all latents read it.

    Raises:
        UserError: `video_grid` does not fit the model.
    """
    n, both = config.latents, {'video', 'audio'} <= set(config.modalities)
    places = {}
    if 'video' in config.modalities:
        audio = min(n - 1, max(1, round(placement.audio_share * n))) if both else 0
        shape = config.video_token_shape
        grid = placement.video_grid or best_grid(n - audio, shape)
        if math.prod(grid) > n - min(audio, 1):
            rest = ' and leave some for the audio' if both else ''
            raise UserError(
                f'initialization.video_grid={grid} is {math.prod(grid)} latents: it must fit into '
                f'the {n} of the model{rest}'
            )
        t, y, x = map(centres, grid)
        if placement.time_ends and min(len(t), shape[0]) > 1:
            t *= centres(shape[0])[-1] / t[-1]
        points = grid_points(t, y, x)
        while not both and len(points) < n:
            smaller = best_grid(n - len(points), shape)
            points = np.concatenate([points, grid_points(*map(centres, smaller))])
        places['video'] = Places(points, (t, y, x))
        n -= len(points)
    if 'audio' in config.modalities and n:
        places['audio'] = Places(grid_points(centres(n)), (centres(n),))
    return {name: places[name] for name in PARAMETER_NAMES if name in places}


def best_grid(count: int, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The grid of at most `count` latents whose distances, in tokens, are the most equal.

    Minimizes log(largest distance / smallest distance) + 2 log(count / latents of the grid). No
    axis gets more latents than it has tokens (`shape`).
    """

    def cost(grid: tuple[int, int, int]) -> float:
        distances = np.log(np.array(shape) / grid)
        return float(np.ptp(distances)) + 2 * math.log(count / math.prod(grid))

    grids = [
        (t, y, min(shape[2], count // (t * y)))
        for t in range(1, min(count, shape[0]) + 1)
        for y in range(1, min(count // t, shape[1]) + 1)
    ]
    return min(grids, key=cost)


def centres(count: int) -> np.ndarray:
    """[count]: the centres of equal parts of [-1, 1]."""
    return (2 * np.arange(count) + 1) / count - 1


def grid_points(*axes: np.ndarray) -> np.ndarray:
    """[n, axes]: the points of a grid with these coordinates along its axes, row-major."""
    return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, len(axes))


@dataclasses.dataclass(frozen=True)
class Features:
    """F: places [m, axes] to features [m, r], with <F(p), F(p')> close to a kernel.

    The kernel is a sum over the axes of exp(-(p - p')^2 / (2 sigma^2)). The features of an axis are
    made from the eigenvectors of the kernel between the latents' coordinates (Nystroem's method).

    Attributes:
        axes: coordinates of the latents along each axis; an axis with one has no features.
        widths: sigma of each axis.
        rotation: [r', r], applied to these features; None for none.
    """

    axes: tuple[np.ndarray, ...]
    widths: tuple[float, ...]
    rotation: np.ndarray | None = None

    def __call__(self, points: np.ndarray) -> np.ndarray:
        parts = []
        for x, axis, sigma in zip(points.T, self.axes, self.widths):
            if len(axis) > 1:
                values, vectors = np.linalg.eigh(kernel(axis, axis, sigma))
                kept = values > 1e-3 * values[-1]
                basis = vectors[:, kept] / np.sqrt(values[kept])
                parts.append(kernel(x, axis, sigma) @ basis)
        features = np.concatenate(parts or [np.ones((len(points), 1))], axis=1)
        return features if self.rotation is None else features @ self.rotation

    def reduced(self, points: np.ndarray, rank: int) -> 'Features':
        """The `rank` principal directions of the features at `points`."""
        rotation = np.linalg.svd(self(points), full_matrices=False)[2][:rank].T
        return dataclasses.replace(self, rotation=rotation)


def kernel(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """[i] and [j] to exp(-(x - y)^2 / (2 sigma^2)) [i, j]."""
    return np.exp(-np.square((x[:, None] - y) / sigma) / 2)


def make_features(
    config: AutoencoderConfig, places: Mapping[str, Places], placement: Placement
) -> dict[str, Features]:
    """The features F of each modality; together at most as many as `feature_room`."""
    room = feature_room(config, places)
    along_t = placement.spread * placement.time_spread
    spreads = {
        'video': (along_t, placement.spread, placement.spread),
        'audio': (placement.spread,),
    }
    features = {}
    for name, place in places.items():
        widths = (2 * spread / len(axis) for spread, axis in zip(spreads[name], place.axes))
        features[name] = Features(place.axes, tuple(widths))
    ranks = {name: f(places[name].points).shape[1] for name, f in features.items()}
    total = sum(ranks.values())
    if total <= room:
        return features
    # One for each, and shares of the rest.
    shares = {
        name: 1 + (rank - 1) * (room - len(ranks)) // (total - len(ranks))
        for name, rank in ranks.items()
    }
    return {name: f.reduced(places[name].points, shares[name]) for name, f in features.items()}


def feature_room(config: AutoencoderConfig, places: Mapping[str, Places]) -> int:
    """How many features fit into the latents and into one head of both cross-attentions.

    The constant of each modality, see `placed`, is not counted.

    Raises:
        UserError: there is no room for one feature and the constant of each modality.
    """
    room = min(
        config.latent_channels - 1,  # less the mean, which the layer norm removes
        config.token_channels // config.cross_attention_heads,
        config.latent_channels // config.decoder_heads,
    )
    needed = 2 * len(places)
    if room < needed:
        raise UserError(
            f"initialization='placed' needs {needed} channels or more in each head of the "
            f'cross-attentions, and here they have {room}: raise latent_channels='
            f'{config.latent_channels}, or lower cross_attention_heads='
            f'{config.cross_attention_heads} or decoder_heads={config.decoder_heads}'
        )
    return room - len(places)


def check_placement(config: AutoencoderConfig, placement: Placement) -> None:
    """Raises UserError if the placed start cannot be made for this model."""
    feature_room(config, latent_places(config, placement))
