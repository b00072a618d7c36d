"""What a report shows, apart from the files that it links."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.core.clip import Clip, ClipSpec


@dataclasses.dataclass(frozen=True)
class ShownClip:
    """The first seconds of a clip beside their reconstruction.

    Attributes:
        rank: 'best', 'median' or 'worst'.
        line: of `clips.csv`.
        original: video uint8 [t, h, w, 3], audio int16 [s, 1], as far as the model has them.
        reconstruction: the same; label holds the mean scores of the classes, [k], or None.
    """

    rank: str
    line: Mapping[str, Any]
    original: Clip
    reconstruction: Clip


@dataclasses.dataclass(frozen=True)
class Half:
    """The shown windows of a model, decoded from latents as they are and rounded to float16.

    Attributes:
        windows: originals, uint8 [t, h, w, 3].
        whole: video PSNR in dB, mean over these windows, of the float32 latents.
        half: the same of the float16 latents.
    """

    windows: Sequence[Clip]
    whole: float
    half: float


class Look(NamedTuple):
    """What a latent or a query looks at.

    Attributes:
        title: of which latent or query.
        text: the shares of the modalities, and how many tokens or latents it is spread over.
        frame: of a pixel's query; None otherwise.
        point: (y, x) of a pixel's query; None otherwise.
        video: weights of the tokens [t, y, x]; None without video.
        audio: weights of the patches [m]; None without audio.
    """

    title: str
    text: str
    frame: int | None
    point: tuple[int, int] | None
    video: np.ndarray | None
    audio: np.ndarray | None


class AttentionMaps(NamedTuple):
    """Looks at a window.

    Attributes:
        name: of the clip.
        window: video uint8 [t, h, w, 3], audio int16 [s, 1], as far as the model has them.
        looks: latents first, then queries.
    """

    name: str
    window: Clip
    looks: Sequence[Look]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model and its results.

    Attributes:
        row: of `table5.results`.
        lines: of `clips.csv`.
        spec: of its windows.
        classes: name of each class index.
        shown: clips of the gallery.
        half: of the rate-distortion plot; None without video.
        training: the entries of the run's `metrics.jsonl`; () where there is none.
        config: of the run.
        attention: what it looks at; None where it was not measured.
    """

    row: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    spec: ClipSpec
    classes: Sequence[str]
    shown: Sequence[ShownClip] = ()
    half: Half | None = None
    training: Sequence[Mapping[str, float]] = ()
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    attention: AttentionMaps | None = None


def choose(lines: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The best, median and worst clip by video PSNR, or by audio PSNR without video."""
    for column in ('video_psnr', 'audio_psnr'):
        ranked = [line for line in lines if line.get(column) is not None]
        if ranked:
            ranked.sort(key=lambda line: -line[column])
            places = {'best': 0, 'median': len(ranked) // 2, 'worst': len(ranked) - 1}
            chosen: dict[int, str] = {}
            for name, place in places.items():
                chosen.setdefault(place, name)
            return {name: ranked[place] for place, name in chosen.items()}
    return {}


def video_psnr(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR in dB of uint8 video, at most 100."""
    error = np.square((one.astype(np.float64) - other) / 255).mean()
    return float(min(100.0, -10 * np.log10(max(error, 1e-10))))
