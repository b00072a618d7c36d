"""What attention looks at, in one window: pictures of what latents and queries attend to.

A latent attends to tokens. A query attends to latents, and through them to tokens: its weights over
the latents, times theirs over the tokens. That leaves out what the latents tell each other in the
self-attends between.
"""

import pathlib
from collections.abc import Mapping

import cv2
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core import files
from perceiver_io.core.clip import Clip
from perceiver_io.core.picks import spread
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.report.content import AttentionMaps, Look

LATENTS = 6  # shown, evenly spaced by their index
_AT_ONCE = 64  # latents whose weights over all tokens are in memory together
_FRAMES = 4  # in a picture
_ORDER = ('video', 'audio', 'label')
_WIDTH, _WAVE = 480, 48  # pixels of a picture, and the height of its waveform


def look(name: str, model: Autoencoder, params: hk.Params, window: Clip) -> AttentionMaps:
    """Looks of a few latents, of three pixels, of the audio in the middle, and of the label."""
    config = model.config
    given = {
        modality: getattr(window, modality)[None]
        for modality in ('video', 'audio')
        if modality in config.modalities
    }
    latents = model.encode(params, **given)
    places, video_index, audio_index = _queries(config)
    asked = jax.device_get(
        model.decoder_attention(params, latents, video_index=video_index, audio_index=audio_index)
    )
    rows = np.concatenate([asked[modality][0] for modality in _ORDER if modality in asked])
    kept = rows.shape[1]
    chosen = spread(range(kept), LATENTS)
    read: dict[str, list[np.ndarray]] = {modality: [] for modality in asked}
    through: dict[str, np.ndarray] = {}
    for start in range(0, kept, _AT_ONCE):
        index = np.minimum(np.arange(start, start + _AT_ONCE), kept - 1)
        part = jax.device_get(model.encoder_attention(params, jnp.asarray(index), **given))
        new = slice(0, min(_AT_ONCE, kept - start))
        for modality, weights in part.items():
            own = weights[0, new]
            read[modality] += [own[i - start] for i in chosen if start <= i < start + len(own)]
            added = rows[:, start : start + len(own)] @ own
            through[modality] = through.get(modality, 0) + added
    looks = [
        _look(f'Latent {i}', {name: weights[at] for name, weights in read.items()}, config)
        for at, i in enumerate(chosen)
    ]
    for at, (title, frame, point) in enumerate(places):
        weights = {name: shares[at] for name, shares in through.items()}
        note = f'attends to {_perplexity(rows[at]):.1f} of {kept} latents; through them, '
        looks.append(_look(title, weights, config, note, frame, point))
    return AttentionMaps(name, window, looks)


def _queries(
    config: AutoencoderConfig,
) -> tuple[list[tuple[str, int | None, tuple[int, int] | None]], jax.Array, jax.Array]:
    """Titles and places of the queries, in the order of _ORDER, and their indices."""
    frames, height, width = config.video_shape
    places: list[tuple[str, int | None, tuple[int, int] | None]] = []
    video, frame = [], frames // 2
    if 'video' in config.modalities:
        for part in (0.25, 0.5, 0.75):
            y, x = int(part * height), int(part * width)
            video.append((frame * height + y) * width + x)
            places.append((f'Pixel in frame {frame}, row {y}, column {x}', frame, (y, x)))
    patch = config.samples // config.audio_patch // 2
    if 'audio' in config.modalities:
        places.append((f'Audio patch {patch}', None, None))
    if 'label' in config.modalities:
        places.append(('Label', None, None))
    return places, jnp.array(video or [0]), jnp.array([patch])


def _look(
    title: str,
    weights: Mapping[str, np.ndarray],
    config: AutoencoderConfig,
    note: str = '',
    frame: int | None = None,
    point: tuple[int, int] | None = None,
) -> Look:
    everything = np.concatenate(list(weights.values()))
    shares = ', '.join(f'{weights[name].sum():.0%} {name}' for name in _ORDER if name in weights)
    spread_over = f'{_perplexity(everything):,.0f} of {len(everything):,} tokens'
    video = weights.get('video')
    if video is not None:
        video = video.reshape(config.video_tokens_position.shape)
    return Look(title, f'{note}{shares}; {spread_over}', frame, point, video, weights.get('audio'))


def _perplexity(weights: np.ndarray) -> float:
    """Over how many tokens weights are spread: exp of their entropy."""
    shares = weights / weights.sum()
    return float(np.exp(-np.sum(shares * np.log(shares + 1e-30))))


def write_pictures(maps: AttentionMaps, folder: pathlib.Path, ident: str) -> list[str]:
    """Writes a PNG for each look; returns their names."""
    names = []
    for number, each in enumerate(maps.looks):
        names.append(f'{ident}_{number}.png')
        _, data = cv2.imencode('.png', picture(each, maps.window)[..., ::-1])
        files.write_bytes(folder / names[-1], data.tobytes())
    return names


def picture(each: Look, window: Clip) -> np.ndarray:
    """uint8 [h, 480, 3]: frames in grey with weights in yellow, below them the waveform likewise.

    Yellow goes from 0 to the largest weight in the picture.
    """
    parts = []
    largest = max(part.max() for part in (each.video, each.audio) if part is not None)
    if each.video is not None:
        assert window.video is not None
        parts.append(_frames(each, window.video, largest))
    if each.audio is not None:
        assert window.audio is not None
        parts.append(_wave(each.audio / largest, window.audio[:, 0]))
    return np.concatenate(parts)


def _frames(each: Look, video: np.ndarray, largest: float) -> np.ndarray:
    assert each.video is not None
    count = min(_FRAMES, len(video))
    shown = sorted(spread(range(len(video)), count))
    if each.frame is not None:  # the query's own frame, in place of the nearest
        nearest = min(range(count), key=lambda i: abs(shown[i] - (each.frame or 0)))
        shown[nearest] = each.frame
    side = _WIDTH // count
    size = (side, max(1, side * video.shape[1] // video.shape[2]))
    columns = []
    for frame in shown:
        grey = cv2.resize(video[frame], size, interpolation=cv2.INTER_AREA).mean(-1) / 255
        token = frame * len(each.video) // len(video)
        heat = cv2.resize(each.video[token] / largest, size, interpolation=cv2.INTER_NEAREST)
        image = _blend(grey, heat)
        if frame == each.frame and each.point is not None:
            y, x = (int((at + 0.5) * size[1] / video.shape[1]) for at in each.point)
            cv2.drawMarker(image, (x, y), (255, 0, 80), cv2.MARKER_CROSS, 15, 2)
        columns.append(image)
    strip = np.concatenate(columns, axis=1)
    return np.pad(strip, ((0, 0), (0, _WIDTH - strip.shape[1]), (0, 0)))


def _wave(heat: np.ndarray, audio: np.ndarray) -> np.ndarray:
    """The waveform in white on a ground that is the brighter the larger the weights are."""
    starts = np.linspace(0, len(heat), _WIDTH, endpoint=False)
    ends = np.maximum(np.ceil(starts + len(heat) / _WIDTH), starts.astype(int) + 1).astype(int)
    columns = np.array([heat[int(one) : other].max() for one, other in zip(starts, ends)])
    image = np.broadcast_to(_blend(np.full(_WIDTH, 0.1), columns), (_WAVE, _WIDTH, 3)).copy()
    edges = np.linspace(0, len(audio), _WIDTH + 1).astype(int)
    for x, (one, other) in enumerate(zip(edges, np.maximum(edges[1:], edges[:-1] + 1))):
        part = audio[one:other].astype(float) / 32768
        top, bottom = (_WAVE / 2 * (1 - level) for level in (part.max(), part.min()))
        image[int(top) : int(bottom) + 1, x] = 255
    return image


def _blend(grey: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Grey in [0, 1], darkened, with yellow where heat in [0, 1] is: uint8 [..., 3]."""
    dark = 0.5 * grey[..., None]
    mixed = dark + heat[..., None] * (np.array([1.0, 0.85, 0.1]) - dark)
    return (255 * np.clip(mixed, 0, 1)).astype(np.uint8)
