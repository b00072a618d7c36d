"""The clips of a split: what is known of each before it is read, and where its media are."""

import dataclasses
import difflib
import zlib
from collections.abc import Sequence
from typing import Protocol

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import sampling


class Stored(Protocol):
    """A media file that lies inside another file."""

    def read(self) -> bytes:
        """All of the media file."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A clip that can be read.

    Attributes:
        media: the path of its file, or what holds it.
        name: as the CSV writes it; unique in its split.
        label: index into `Source.classes`; -1 for none.
        seconds: what windows may be drawn from.
        has_audio: False where reading gives silence instead of sound.
    """

    media: str | Stored
    name: str
    label: int
    seconds: float
    has_audio: bool

    @property
    def file(self) -> str:
        """The path; for a clip inside another file, its name."""
        return self.media if isinstance(self.media, str) else self.name

    def load(self) -> str | bytes:
        """What `media.read_window` reads: the path, or the bytes, fetched now."""
        return self.media if isinstance(self.media, str) else self.media.read()


@dataclasses.dataclass(frozen=True)
class Source:
    """The clips of one split; it pickles for worker processes.

    Attributes:
        records: the clips that can be read, in the order of the list that they are from. It may
            make each when it is asked for.
        classes: name of each class index.
        skipped: (name, reason) of the clips of this split that cannot be used.
    """

    records: Sequence[Record]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def choose_classes(
    found: Sequence[str], settled: Sequence[str] | None, only: Sequence[str]
) -> tuple[str, ...]:
    """The class of each index.

    Args:
        found: the classes of all the clips, in their order.
        settled: those of each index, where something has decided it before; None if not.
        only: the classes that are wanted; empty for all.

    Returns:
        `settled`, or else what is wanted of `found`, in that order: the indices of a part of the
        classes run from 0 on (ours).
    """
    for name in only:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            raise UserError(
                f'data.classes has {name!r}, and no clip is of that class: '
                + (f'did you mean {near[0]!r}?' if near else 'leave it out')
            )
    if settled is None:
        settled = [name for name in found if not only or name in only]
    if len(set(settled)) < len(settled):
        raise UserError('classes names a class twice: each must have one index')
    return tuple(settled)


def check_missing_audio(missing_audio: str) -> None:
    if missing_audio not in ('silence', 'skip'):
        raise UserError(f"{missing_audio=} must be 'silence' or 'skip'")


def unusable(
    has_video: bool, has_audio: bool, seconds: float, spec: ClipSpec, missing_audio: str
) -> str | None:
    """Why a clip that can be read is of no use for windows of `spec`; None if it is.

    `missing_audio` says what a clip without sound is, where sound is asked for: 'silence', or
    something to 'skip'. Where nothing but sound is asked for, it is of no use.
    """
    if spec.video and not has_video:
        return 'it has no picture'
    if spec.audio and not has_audio and (missing_audio == 'skip' or not spec.video):
        return 'it has no sound'
    if not sampling.fits(seconds, spec):
        return f'it lasts {seconds:.2f} s, less than a window of {spec.seconds:.2f} s'
    return None


def in_fraction(name: str, fraction: float) -> bool:
    """Whether a clip is in a fraction of the data: by its name alone, so that a smaller fraction is
    part of a larger one (ours)."""
    return zlib.crc32(name.encode()) < fraction * 2**32


def none_usable(where: str, skipped: Sequence[tuple[str, str]]) -> UserError:
    """The error to raise where a split has no record."""
    if not skipped:
        return UserError(
            f'{where} has no clip that is asked for: set another split, other '
            'data.classes or a larger data.fraction'
        )
    reasons = '; '.join(f'{name}: {reason}' for name, reason in skipped[:3])
    return UserError(
        f'no usable clip in {where}: {len(skipped)} skipped '
        f'({reasons}{"; ..." if len(skipped) > 3 else ""})'
    )
