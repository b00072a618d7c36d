"""The clips of a split: what is known of each before it is read, and which are used."""

import dataclasses
import difflib
import zlib
from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, get_args

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.data import sampling

MissingAudio: TypeAlias = Literal['silence', 'skip']


class Stored(Protocol):
    """A media file inside another file."""

    def read(self) -> bytes:
        """The content of the media file."""


@dataclasses.dataclass(frozen=True)
class Record:
    """A clip that can be read.

    Attributes:
        media: the path of its file, or an object that reads it.
        name: as in the CSV; unique in its split.
        label: index into `Source.classes`; -1 for none.
        seconds: its length; windows lie in [0, seconds].
        has_audio: False where the audio of windows is silence.
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
        """What `media.reader` takes: the path, or the content, which is read now."""
        return self.media if isinstance(self.media, str) else self.media.read()


@dataclasses.dataclass(frozen=True)
class Source:
    """The clips of one split; it can be pickled for worker processes.

    Attributes:
        records: the clips that can be read, in the order in which they are listed. The sequence may
            create each record when it is asked for.
        classes: the name of each class index.
        skipped: (name, reason) of the clips of this split that cannot be used.
    """

    records: Sequence[Record]
    classes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which clips of a folder or a dataset are used.

    Attributes:
        split: the name of the split.
        spec: the windows that will be read; shorter clips are skipped.
        classes: the class of each index; None for the labels found, sorted.
        only: the classes whose clips are used; empty for all. See `choose_classes`.
        fraction: of the clips that is used, by `in_fraction`.
        missing_audio: what happens to a clip without audio where `spec` asks for audio: 'silence'
            or 'skip'.
        needs_label: whether clips without a label, or with one that is not in `classes`, are
            skipped. Otherwise their label is -1.
    """

    split: str
    spec: ClipSpec
    classes: Sequence[str] | None = None
    only: Sequence[str] = ()
    fraction: float = 1.0
    missing_audio: MissingAudio = 'silence'
    needs_label: bool = True

    def __post_init__(self) -> None:
        check_missing_audio(self.missing_audio)

    def why_unusable(self, has_video: bool, has_audio: bool, seconds: float) -> str | None:
        """Why a clip that can be read is skipped; None if it is used."""
        spec = self.spec
        if spec.video and not has_video:
            return 'it has no video'
        if spec.audio and not has_audio and (self.missing_audio == 'skip' or not spec.video):
            return 'it has no audio'
        if not sampling.fits(seconds, spec):
            return f'it lasts {seconds:.2f} s, less than a window of {spec.seconds:.2f} s'
        return None


def check_missing_audio(missing_audio: str, key: str = 'missing_audio') -> None:
    """Raises UserError, naming the key, if the value is not a `MissingAudio`."""
    if missing_audio not in get_args(MissingAudio):
        raise UserError(f"{key}={missing_audio!r} must be 'silence' or 'skip'")


def choose_classes(
    found: Sequence[str], settled: Sequence[str] | None, only: Sequence[str]
) -> tuple[str, ...]:
    """The class of each index.

    Args:
        found: the classes of all the clips, in order.
        settled: the class of each index, if it is known already.
        only: the classes that are wanted; empty for all.

    Returns:
        `settled`, or else the wanted classes in the order of `found`, so that the indices of some
        of the classes start at 0.
    """
    for name in only:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            raise UsageError(
                f'data.classes has {name!r}, and no clip is of that class: '
                + (f'did you mean {near[0]!r}?' if near else 'leave it out')
            )
    if settled is None:
        settled = [name for name in found if not only or name in only]
    if len(set(settled)) < len(settled):
        raise UserError('classes names a class twice: each must have one index')
    return tuple(settled)


def in_fraction(name: str, fraction: float) -> bool:
    """Whether a clip is in a fraction of the data.

    This depends on its name alone, so that a smaller fraction is part of a larger one.
    """
    return zlib.crc32(name.encode()) < fraction * 2**32


def none_usable(where: str, skipped: Sequence[tuple[str, str]]) -> UserError:
    """The error to raise where no clip of a split can be used."""
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
