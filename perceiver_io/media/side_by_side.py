"""Originals and reconstructions side by side, as video with stereo audio and as images."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from perceiver_io.core.clip import Array, Clip, ClipSpec
from perceiver_io.core.picks import spread

_PANEL = (224, 320)  # height and width of a waveform; video is at least that high
_CAPTION = 26  # pixels above the panels, and below them
_AMPLIFIED = 4  # times the difference is shown: a quarter of the range is as bright as it gets
_GAP = 4  # pixels between the panels
_STRIP = 96  # least height of a frame in a strip
_PAPER, _INK, _PLAYHEAD = 24, 220, (255, 120, 60)


class SideBySide:
    """Draws original | reconstruction | their absolute difference, all enlarged.

    The difference of a pixel is the mean of its channels, black where there is none, then violet,
    red and yellow for a quarter of the range or more. The audio is stereo: the original is in the
    left channel, the reconstruction in the right one. Without video, the waveforms of the window
    and of the difference are drawn, with a line at the current time.

    Attributes:
        height: of the drawn frames, in pixels; even.
        width: the same.
    """

    def __init__(self, spec: ClipSpec) -> None:
        self._spec = spec
        self._panel = _enlarged(spec.height, spec.width, _PANEL[0]) if spec.video else _PANEL
        height, width = self._panel
        self.height = 2 * _CAPTION + height + height % 2
        self.width = 3 * width + 2 * _GAP
        self._lefts = (0, width + _GAP, 2 * (width + _GAP))
        ears = (', left ear', ', right ear') if spec.audio else ('', '')
        times = f' x {_AMPLIFIED}' if spec.video else ''
        captions = (f'original{ears[0]}', f'reconstruction{ears[1]}', f'difference{times}')
        self._page = np.full((self.height, self.width, 3), _PAPER, np.uint8)
        self._write(self._page[:_CAPTION], captions)

    def draw(
        self, original: Clip, reconstruction: Clip, notes: Sequence[tuple[str, str, str]] = ()
    ) -> Clip:
        """Draws all frames of a window, or some, with their audio.

        Args:
            original: video uint8 [t, h, w, 3] and audio int16 [s, 1], the modalities of the spec.
            reconstruction: the same, from the model.
            notes: of each frame, what is written below each of its panels; () for nothing.

        Returns:
            video uint8 [t, height, width, 3], audio int16 [s, 2] or None.
        """
        panels = self._panels(original, reconstruction)
        height, width = self._panel
        video = np.repeat(self._page[None], len(panels[0]), axis=0)
        for panel, left in zip(panels, self._lefts):
            video[:, _CAPTION : _CAPTION + height, left : left + width] = panel
        for page, note in zip(video, notes):
            self._write(page[-_CAPTION:], note)
        audio = None
        if self._spec.audio:
            audio = np.concatenate([original.audio, reconstruction.audio], axis=1)
        return Clip(video, audio)

    def _panels(self, original: Clip, reconstruction: Clip) -> list[np.ndarray]:
        """Three times uint8 [t, *self._panel, 3]."""
        if self._spec.video:
            difference = heat(original.video, reconstruction.video)
            videos = (original.video, reconstruction.video, difference)
            return [_resize(video, self._panel) for video in videos]
        before, after = (clip.audio[:, 0].astype(int) for clip in (original, reconstruction))
        frames = len(before) // self._spec.samples_per_frame
        return [_waveforms(audio, frames) for audio in (before, after, before - after)]

    def _write(self, line: np.ndarray, texts: Sequence[str]) -> None:
        """Writes a text for each panel, in place."""
        for text, left in zip(texts, self._lefts):
            if text:
                _write(line, text, left, self._panel[1])


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


def heat(one: Array, other: Array) -> np.ndarray:
    """The absolute difference of two videos, uint8 [t, h, w, 3], in colours from dark to bright."""
    difference = np.abs(np.asarray(one, int) - np.asarray(other, int)).mean(-1)
    levels = np.minimum(_AMPLIFIED * difference, 255).astype(np.uint8)
    heat = [cv2.applyColorMap(level, cv2.COLORMAP_INFERNO) for level in levels]
    return np.stack(heat)[..., ::-1]  # OpenCV's order is blue, green, red


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
    """Samples [s] to uint8 [frames, *_PANEL, 3]: the waveform, and a line at each frame's time."""
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
