"""The files of a clip in the gallery: players, waveforms, mel spectrograms, class bars."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np

from perceiver_io.core import files
from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.media.side_by_side import heat
from perceiver_io.media.writer import write_media
from perceiver_io.metrics import spectra
from perceiver_io.report.content import Model, ShownClip

WAVE_WIDTH, WAVE_HEIGHT = 480, 80  # units of the waveform's SVG
_DECIBELS = 80.0  # range of a spectrogram


class ClassBar(NamedTuple):
    """A class and its score, 0 to 1; `right` where it is the clip's own."""

    name: str
    score: float
    right: bool


class Card(NamedTuple):
    """A clip of the gallery, for the template; paths are relative to the page.

    Attributes:
        ident: unique in the page, of letters and digits.
        shown: the clip.
        original, reconstruction: paths of media files.
        error: path of the film of the error; None without video.
        posters: paths of their first frames, by kind; {} without video.
        waves: SVG path data of original and reconstruction; () without audio.
        mels: paths of images of both mel spectrograms; () without audio or for short clips.
        bars: the classes with the highest scores; () without classes.
    """

    ident: str
    shown: ShownClip
    original: str
    reconstruction: str
    error: str | None
    posters: Mapping[str, str]
    waves: Sequence[str]
    mels: Sequence[str]
    bars: Sequence[ClassBar]


def write_cards(model: Model, folder: pathlib.Path, number: int) -> list[Card]:
    """Writes the media of all shown clips of a model to `folder`/media.

    File names are numbers, so that no name of a clip reaches an address.
    """
    media = folder / 'media'
    media.mkdir(exist_ok=True)
    return [_card(shown, model, media, f'm{number}{shown.rank}') for shown in model.shown]


def _card(shown: ShownClip, model: Model, media: pathlib.Path, ident: str) -> Card:
    names = {}
    pair = {'original': shown.original, 'reconstruction': shown.reconstruction}
    for kind, clip in pair.items():
        names[kind] = f'{ident}_{kind}.mp4'
        _write(media / names[kind], clip, model.spec)
    error = None
    if shown.original.video is not None:
        error = f'{ident}_error.mp4'
        difference = heat(shown.original.video, shown.reconstruction.video)
        _write(media / error, Clip(difference), model.spec)
    posters = {}
    if error is not None:
        firsts = {kind: clip.video[0] for kind, clip in pair.items()} | {'error': difference[0]}
        for kind, image in firsts.items():
            posters[kind] = f'media/{ident}_{kind}.png'
            _write_png(media.parent / posters[kind], image[..., ::-1])
    waves: list[str] = []
    mels: list[str] = []
    if shown.original.audio is not None:
        waves = [wave(clip.audio[:, 0]) for clip in pair.values()]
        if len(shown.original.audio) >= spectra.MEL_FFT:
            for kind, clip in pair.items():
                mels.append(f'media/{ident}_{kind}_mel.png')
                _write_mel(media.parent / mels[-1], clip.audio[:, 0], model.spec.sample_rate)
    return Card(
        ident,
        shown,
        f'media/{names["original"]}',
        f'media/{names["reconstruction"]}',
        error and f'media/{error}',
        posters,
        waves,
        mels,
        _bars(shown, model.classes),
    )


def _write(path: pathlib.Path, clip: Clip, spec: ClipSpec) -> None:
    write_media(
        path, clip.video, clip.audio, frame_rate=spec.frame_rate, sample_rate=spec.sample_rate
    )


def wave(audio: np.ndarray) -> str:
    """SVG path data of a waveform, int16 [s]: highest and lowest sample of each column."""
    starts = np.unique(np.linspace(0, len(audio), WAVE_WIDTH, endpoint=False).astype(int))
    middle = WAVE_HEIGHT / 2
    tops = np.maximum.reduceat(audio.astype(int), starts)
    bottoms = np.minimum.reduceat(audio.astype(int), starts)
    across = np.linspace(0, WAVE_WIDTH, len(starts), endpoint=False)
    return ''.join(
        f'M{x:.0f} {middle * (1 - top / 32768) - 0.5:.1f}V{middle * (1 - low / 32768) + 0.5:.1f}'
        for x, top, low in zip(across, tops, bottoms)
    )


def _write_mel(path: pathlib.Path, audio: np.ndarray, sample_rate: int) -> None:
    """A picture of the log-mel spectrogram, low frequencies at the bottom."""
    sound = jnp.asarray(audio.astype(np.float32) / 32768)[None]
    size, hop = spectra.MEL_FFT, min(spectra.MEL_HOP, max(1, len(audio) // 200))
    power = np.square(np.asarray(spectra.magnitudes(sound, size, hop)[0]))
    bands = 10 * np.log10(np.maximum(power @ spectra.mel_filters(sample_rate).T, spectra.FLOOR))
    # One scale for all clips, so that loud and soft can be compared.
    levels = np.clip((bands + 60) / _DECIBELS, 0, 1)
    picture = (levels.T[::-1] * 255).astype(np.uint8)
    coloured = cv2.applyColorMap(np.ascontiguousarray(picture), cv2.COLORMAP_INFERNO)
    large = cv2.resize(coloured, (480, 160), interpolation=cv2.INTER_LINEAR)
    _write_png(path, large)


def _write_png(path: pathlib.Path, image: np.ndarray) -> None:
    """uint8 [h, w, 3] with blue, green, red."""
    done, data = cv2.imencode('.png', np.ascontiguousarray(image))
    if done:
        files.write_bytes(path, data.tobytes())


def _bars(shown: ShownClip, classes: Sequence[str]) -> list[ClassBar]:
    scores: Any = shown.reconstruction.label
    if scores is None:
        return []
    best = np.argsort(-scores, kind='stable')[:5].tolist()
    names = {index: classes[index] if index < len(classes) else f'class {index}' for index in best}
    return [
        ClassBar(names[index], float(scores[index]), names[index] == shown.line.get('label'))
        for index in best
    ]
