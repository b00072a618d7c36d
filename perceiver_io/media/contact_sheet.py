"""An image that shows clips of each class: a row of stills with the waveforms of their audio."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from perceiver_io.core.clip import Clip, ClipSpec

STILL = 112  # pixels along a side
SPEC = ClipSpec(frames=16, height=STILL, width=STILL)

_WAVE = 22  # pixels high
_GAP = 6
_MARGIN = 28
_NAMES = 190  # width of a column of class names
_HEAD = 92  # height of the title with its note
_PAGE = 1100  # width that short rows fill
_PAPER, _PANEL, _INK, _FAINT, _SOUND = '#14161a', '#20242b', '#eceff4', '#8b94a3', '#5cc8ff'


class Row(NamedTuple):
    """A class and some of its clips.

    Attributes:
        title: the name of the class.
        note: text below the name.
        clips: windows of the sizes in SPEC; None for one that cannot be read.
    """

    title: str
    note: str
    clips: Sequence[Clip | None]


def draw(title: str, note: str, rows: Sequence[Row]) -> np.ndarray:
    """uint8 [h, w, 3]: the title, and below it the rows; short rows are placed side by side."""
    columns = max(len(row.clips) for row in rows)
    width, height = _NAMES + columns * (STILL + _GAP) + _MARGIN, STILL + _WAVE + 3 * _GAP
    beside = min(len(rows), max(1, _PAGE // width))
    sheet = Image.new(
        'RGB',
        (max(_PAGE, _MARGIN + beside * width), _HEAD + -(-len(rows) // beside) * height + _MARGIN),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 22), title, _INK, _font(24))
    pen.text((_MARGIN, 54), note, _FAINT, _font(14))
    for index, row in enumerate(rows):
        left, top = _MARGIN + index % beside * width, _HEAD + index // beside * height
        _write_name(pen, row, left, top)
        for column, clip in enumerate(row.clips):
            _draw_clip(sheet, pen, clip, left + _NAMES + column * (STILL + _GAP), top)
    return np.asarray(sheet)


def _draw_clip(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, clip: Clip | None, left: int, top: int
) -> None:
    pen.rectangle((left, top, left + STILL - 1, top + STILL + _WAVE - 1), _PANEL)
    if clip is None:
        pen.text((left + 8, top + 8), 'unreadable', _FAINT, _font(13))
        return
    sheet.paste(Image.fromarray(clip.video[len(clip.video) // 2]), (left, top))
    _draw_wave(pen, clip.audio[:, 0], left, top + STILL)


def _write_name(pen: ImageDraw.ImageDraw, row: Row, left: int, top: int) -> None:
    """The class, in as many lines as it needs, and the note."""
    font = _font(16)
    lines = wrap(row.title, lambda text: pen.textlength(text, font) <= _NAMES - 16)
    for line in lines:
        pen.text((left, top), line, _INK, font)
        top += 20
    pen.text((left, top + 4), row.note, _FAINT, _font(13))


def wrap(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Breaks a text at spaces into lines that fit; a word that does not fit gets its own line."""
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and not fits(longer):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _draw_wave(pen: ImageDraw.ImageDraw, audio: np.ndarray, left: int, top: int) -> None:
    """The peak of the samples in each column, in dB from -48 to 0; silence is a thin line."""
    starts = np.linspace(0, len(audio), STILL // 2, endpoint=False).astype(int)
    peaks = np.maximum.reduceat(np.abs(audio.astype(int)), starts)
    middle = top + _WAVE / 2
    for column, peak in enumerate(peaks):
        level = max(0.0, 1 + 20 * math.log10(max(peak, 1) / 32768) / 48)
        half = max(0.5, level * (_WAVE / 2 - 2))
        x = left + 2 * column
        pen.line((x, middle - half, x, middle + half), _SOUND if level else _FAINT)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
