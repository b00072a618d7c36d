"""Originals and reconstructions side by side, as video with stereo audio and as images."""

import math

import cv2
import numpy as np

from perceiver_io.core.clip import Array, Clip, ClipSpec
from perceiver_io.core.picks import spread

CAPTIONS = ('original, left ear', 'reconstruction, right ear')

_PANEL = (224, 320)  # height and width of a waveform; video is at least that high
_CAPTION = 26  # pixels above the panels
_GAP = 4  # pixels between the panels
_STRIP = 96  # least height of a frame in a strip
_PAPER, _INK, _PLAYHEAD = 24, 220, (255, 120, 60)


class SideBySide:
    """Draws original | reconstruction, both enlarged.

    The audio is stereo: the original is in the left channel, the reconstruction in the right one.
    Without video, the waveforms of the window are drawn, with a line at the current time.

    Attributes:
        height: of the drawn frames, in pixels; even.
        width: the same.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self._panel = _enlarged(spec.height, spec.width, _PANEL[0]) if spec.video else _PANEL
        height, width = self._panel
        self.height = _CAPTION + height + height % 2
        self.width = 2 * width + _GAP
        texts = CAPTIONS if spec.audio else [text.split(',')[0] for text in CAPTIONS]
        self._page = np.full((self.height, self.width, 3), _PAPER, np.uint8)
        for text, left in zip(texts, (0, width + _GAP)):
            _write(self._page[:_CAPTION], text, left, width)

    def draw(self, original: Clip, reconstruction: Clip) -> Clip:
        """Draws all frames of a window, or some, with their audio.

        Args:
            original: video uint8 [t, h, w, 3] and audio int16 [s, 1], the modalities of the spec.
            reconstruction: the same, from the model.

        Returns:
            video uint8 [t, height, width, 3], audio int16 [s, 2] or None.
        """
        left, right = (self._panels(clip) for clip in (original, reconstruction))
        height, width = self._panel
        video = np.repeat(self._page[None], len(left), axis=0)
        video[:, _CAPTION : _CAPTION + height, :width] = left
        video[:, _CAPTION : _CAPTION + height, width + _GAP :] = right
        audio = None
        if self._spec.audio:
            audio = np.concatenate([original.audio, reconstruction.audio], axis=1)
        return Clip(video, audio)

    def _panels(self, clip: Clip) -> np.ndarray:
        if self._spec.video:
            return _resize(clip.video, self._panel)
        return _waveforms(clip.audio[:, 0], len(clip.audio) // self._spec.samples_per_frame)


def strip(original: Array, reconstruction: Array, frames: int = 8) -> np.ndarray:
    """A strip of evenly spread frames, the original above the reconstruction.

    Args:
        original: [t, h, w, 3] uint8, or float in [0, 1].
        reconstruction: the same; floats outside [0, 1] are clipped.
        frames: how many, at most.

    Returns:
        uint8 [2 panels high, `frames` panels wide, 3].
    """
    chosen = spread(range(len(original)), frames)
    height, width = original.shape[1:3]
    size = _enlarged(height, width, _STRIP)
    rows = [
        np.concatenate(_resize(to_pixels(np.asarray(video)[chosen]), size), axis=1)
        for video in (original, reconstruction)
    ]
    gap = np.full((_GAP, rows[0].shape[1], 3), _PAPER, np.uint8)
    return np.concatenate([rows[0], gap, rows[1]])


def to_pixels(video: np.ndarray) -> np.ndarray:
    """uint8 from floats in [0, 1], clipped; uint8 passes unchanged."""
    if video.dtype == np.uint8:
        return video
    return np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)


def _enlarged(height: int, width: int, least: int) -> tuple[int, int]:
    """The size times the smallest whole number that makes it at least `least` high."""
    scale = math.ceil(least / height)
    return height * scale, width * scale


def _resize(video: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [t, h, w, 3] to [t, *size, 3]."""
    if video.shape[1:3] == size:
        return video
    return np.stack(
        [cv2.resize(image, size[::-1], interpolation=cv2.INTER_CUBIC) for image in video]
    )


def _waveforms(audio: np.ndarray, frames: int) -> np.ndarray:
    """int16 [s] to uint8 [frames, *_PANEL, 3]: the waveform, and a line at each frame's time."""
    height, width = _PANEL
    starts = np.linspace(0, len(audio), width, endpoint=False).astype(int)
    top, bottom = (
        height / 2 * (1 - extreme.reduceat(audio, starts) / 32768)
        for extreme in (np.maximum, np.minimum)
    )
    rows = np.arange(height)[:, None] + 0.5
    wave = (rows > top - 1) & (rows < bottom + 1)  # silence is a line
    panel = np.where(wave[..., None], np.uint8(_INK), np.uint8(_PAPER))
    panels = np.tile(panel, (frames, 1, 1, 3))
    for frame in range(frames):
        panels[frame, :, int((frame + 0.5) / frames * width)] = _PLAYHEAD
    return panels


def _write(page: np.ndarray, text: str, left: int, width: int) -> None:
    """Writes a caption in place, centred in the columns left to left + width."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (full, _), _ = cv2.getTextSize(text, font, scale, 1)
    scale *= min(1, 0.9 * width / full)
    (across, up), _ = cv2.getTextSize(text, font, scale, 1)
    place = (left + (width - across) // 2, (len(page) + up) // 2)
    cv2.putText(page, text, place, font, scale, (_INK,) * 3, 1, cv2.LINE_AA)
