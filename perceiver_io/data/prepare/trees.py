"""Lists the clips of a folder; the layout of the folder is detected.

Known layouts are Kinetics as its mirrors, torchvision and mmaction2 store it, lists of paths of
clips in any place, and any folder with a CSV `file,label[,split]`.
"""

import collections
import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence, Set
from typing import NamedTuple

from perceiver_io.core.errors import UserError
from perceiver_io.core.kinetics700 import CLASSES
from perceiver_io.data import folder
from perceiver_io.data.prepare import kinetics_tables

_SUFFIXES = {
    '.mp4',
    '.mkv',
    '.webm',
    '.avi',
    '.mov',
    '.m4v',
    '.mpg',
    '.mpeg',
    '.flv',
    '.wmv',
    '.3gp',
    '.ts',
}
_LINES_TRIED = 100  # of a list, to find the folder that its paths are relative to


class Listed(NamedTuple):
    """A clip that should exist.

    Attributes:
        split: 'train', 'val' or 'test'.
        name: unique in its split among the clips that are not rejected. In Kinetics the file's
            name without suffix, which is the same in every tree; otherwise the name in the CSV.
        path: of the file; '' where there is none.
        label: class index; -1 where the class is withheld.
        class_name: as written.
        reason: why it cannot be used, where this is known without reading it; '' otherwise.
        detail: more about the reason.
    """

    split: str
    name: str
    path: str
    label: int = -1
    class_name: str = ''
    reason: str = ''
    detail: str = ''


@dataclasses.dataclass(frozen=True)
class Listing:
    """The clips of a folder.

    Attributes:
        kind: the detected layout, in words.
        clips: by split; within a split in a pseudo-random order that depends only on the names, so
            that any part of it is a fair sample.
        classes: the name of each class index.
        notes: sentences on files that were ignored and the like.
    """

    kind: str
    clips: tuple[Listed, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


def list_folder(root: str | os.PathLike[str], csv: str = 'labels.csv') -> Listing:
    """The clips of a folder with a CSV `file,label[,split]`, as `folder.open_folder` reads it.

    Raises:
        UserError: the folder or the CSV is missing or damaged; says what to change.
    """
    root = _folder(root)
    rows = folder.read_rows(root / csv, needs_label=True)
    classes = tuple(sorted({row.label for row in rows} - {''}))
    index = {name: number for number, name in enumerate(classes)}
    clips = [
        Listed(row.split, row.name, str(root / row.name), index.get(row.label, -1), row.label)
        for row in rows
    ]
    return Listing(f'the CSV {csv}', _ordered(clips), classes)


def list_kinetics(root: str | os.PathLike[str], csv: str = 'labels.csv') -> Listing:
    """The clips of a copy of Kinetics-700-2020 in any of the known layouts.

    The class of a clip is the name of its folder, or else the label in the annotations, or else
    the number in a list, an index into the sorted 700 names. Clips that annotations or a list name
    and that do not exist are listed as missing.

    Raises:
        UserError: the layout is not known, or there are no clips; says what to change.
    """
    root = _folder(root)
    if (root / csv).is_file():
        rows = folder.read_rows(root / csv, needs_label=True)
        kind, notes = f'the CSV {csv}', list[str]()
        clips = [
            _classified(Listed(row.split, row.name, str(root / row.name)), [row.label])
            for row in rows
        ]
    else:
        tables = kinetics_tables.read_tables(root)
        kind, clips, notes = (_from_lists if tables.listed else _from_folders)(root, tables)
    if not any(clip.path for clip in clips):
        raise UserError(
            f'no clip in {root}: its folders train, val and test (or videos_train, '
            'videos_val), or a list `path label_index` in train.csv, must name some'
        )
    existing = [clip for clip in clips if clip.path]
    if all(clip.reason == 'unknown class' for clip in existing):
        if len(existing) < len(clips):  # there are annotated ones, which are missing
            raise UserError(
                f'the annotations know no clip in {root} by its name, '
                f'{_stem(existing[0].path)} for one: name them YOUTUBEID_SSSSSS_EEEEEE, '
                'with the seconds of start and end in six digits'
            )
        raise UserError(
            f'nothing says which class the clips in {root} are of: put the annotation '
            'CSVs (train.csv, val.csv, test.csv) into its folder annotations'
        )
    return Listing(kind, _ordered(_without_duplicates(clips)), CLASSES, tuple(notes))


def _folder(root: str | os.PathLike[str]) -> pathlib.Path:
    root = pathlib.Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f'no folder {root}: give the folder that holds the clips')
    return root


def _from_folders(
    root: pathlib.Path, tables: kinetics_tables.Tables
) -> tuple[str, list[Listed], list[str]]:
    """(layout, clips, notes) of a folder for each split."""
    clips, notes = list[Listed](), list[str]()
    counts: collections.Counter[str] = collections.Counter()
    places: dict[str, list[pathlib.Path]] = {}
    class_folders: set[str] = set()
    for place in sorted(root.iterdir()):
        split = kinetics_tables.split_of(place.name) if place.is_dir() else None
        if split:
            places.setdefault(split, []).append(place)
    for split, folders in places.items():
        annotated = tables.annotated.get(split, {})
        seen = set()
        for class_folder, path in _files(folders, counts):
            name = _stem(path)
            seen.add(name)
            class_folders.add(class_folder)
            labels = [annotated[name]] if name in annotated else []
            if kinetics_tables.class_index(class_folder) is not None:
                labels.insert(0, class_folder)
            counts['disagree'] += _disagree(labels)
            clips.append(_classified(Listed(split, name, path), labels, class_folder))
        clips += [
            _classified(Listed(split, name, ''), [label])._replace(reason='missing')
            for name, label in annotated.items()
            if name not in seen
        ]
    for split in sorted(tables.annotated.keys() - places.keys()):
        notes.append(f'{split} is annotated but has no folder: left out')
    kind = _form([place.name for folders in places.values() for place in folders], class_folders)
    kind += f', with{"" if tables.annotated else "out"} annotations'
    return kind, clips, notes + _counted(counts)


def _files(
    folders: Iterable[str | os.PathLike[str]],
    counts: collections.Counter[str],
    class_folder: str = '',
    outer: Set[str] = frozenset(),
) -> Iterator[tuple[str, str]]:
    """(name of the class folder or '', path) of each media file, in order, at any depth.

    The class folder is the innermost one with the name of a class, or else the outermost one.
    """
    for place in folders:
        above = {*outer, os.path.realpath(place)}
        for entry in _scan(place):
            is_folder = not _is_media(entry.name) and entry.is_dir()
            if entry.name.startswith('.'):
                counts['hidden'] += 1
            elif is_folder and os.path.realpath(entry.path) in above:
                counts['loops'] += 1
            elif is_folder:
                inner = entry.name
                if kinetics_tables.class_index(inner) is None and class_folder:
                    inner = class_folder  # a folder inside the class
                yield from _files([entry.path], counts, inner, above)
            elif not _is_media(entry.name):
                counts['other'] += 1
            else:
                yield class_folder, entry.path


def _scan(place: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    return sorted(os.scandir(os.fspath(place)), key=lambda entry: entry.name)


def _is_media(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES and _is_text(name)


def _is_text(name: str) -> bool:
    """Whether a name on the disk is UTF-8; records cannot store others."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _form(split_folders: list[str], class_folders: set[str]) -> str:
    if class_folders == {''}:
        return 'a flat folder for each split, as CVDF has it'
    if any(name.startswith('videos_') for name in split_folders):
        return 'videos_train, videos_val and a folder for each class, as mmaction2 has it'
    if any('_' in name for name in class_folders):
        return 'a folder for each split and class, with underscores, as torchvision has it'
    return 'a folder for each split and class, with spaces, as CVDF has it'


def _from_lists(
    root: pathlib.Path, tables: kinetics_tables.Tables
) -> tuple[str, list[Listed], list[str]]:
    """(layout, clips, notes) of lists of paths."""
    clips = list[Listed]()
    counts: collections.Counter[str] = collections.Counter()
    for split, lines in tables.listed.items():
        base = _base(root, tables.folders[split], split, lines)
        annotated = tables.annotated.get(split, {})
        for line in lines:
            path = os.path.join(base, line.path)  # pathlib takes minutes
            class_folder, name = os.path.basename(os.path.dirname(path)), _stem(path)
            number = CLASSES[line.label] if line.label < len(CLASSES) else str(line.label)
            labels = [
                label
                for label in (class_folder, annotated.get(name), number)
                if label and kinetics_tables.class_index(label) is not None
            ]
            counts['disagree'] += _disagree(labels)
            clips.append(_classified(Listed(split, name, path), labels, number))
    return 'lists `path label_index` without header', clips, _counted(counts)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _base(
    root: pathlib.Path,
    table_folder: pathlib.Path,
    split: str,
    lines: Sequence[kinetics_tables.ListLine],
) -> pathlib.Path:
    """The folder that the paths of a list are relative to: the one with most of its files."""
    places = [
        table_folder,
        root,
        *(
            place
            for place in sorted(root.iterdir())
            if place.is_dir() and kinetics_tables.split_of(place.name) == split
        ),
    ]
    found = {
        place: sum((place / line.path).exists() for line in lines[:_LINES_TRIED])
        for place in places
    }
    best = max(places, key=lambda place: found[place])
    if not found[best]:
        raise UserError(
            f'the list of {split} names {lines[0].path}, which does not exist, nor do '
            f'those after it: its paths must be absolute, or start in {root}'
        )
    return best


def _disagree(labels: list[str]) -> bool:
    return len({kinetics_tables.class_index(label) for label in labels if label}) > 1


def _classified(clip: Listed, labels: list[str], otherwise: str = '') -> Listed:
    """The clip with the class of the first label; rejected if that is not a class."""
    if labels and not labels[0]:
        return clip  # withheld
    class_name = labels[0] if labels else otherwise
    index = kinetics_tables.class_index(class_name)
    if index is None:
        detail = '' if class_name else 'nothing says which'
        return clip._replace(class_name=class_name, reason='unknown class', detail=detail)
    return clip._replace(label=index, class_name=CLASSES[index])


def _counted(counts: collections.Counter[str]) -> list[str]:
    texts = {
        'hidden': 'hidden files, such as those of macOS, are ignored',
        'other': 'files of other formats are ignored',
        'loops': 'links to a folder that contains them are ignored',
        'disagree': "clips have two classes: the folder's name is used, then the "
        'annotations, then the list',
    }
    return [f'{counts[key]} {text}' for key, text in texts.items() if counts[key]]


def _without_duplicates(clips: list[Listed]) -> list[Listed]:
    first: dict[tuple[str, str], Listed] = {}
    result = []
    for clip in sorted(clips, key=lambda clip: clip.path):
        if not clip.reason:
            other = first.setdefault((clip.split, clip.name), clip)
            if other is not clip:
                clip = clip._replace(reason='duplicate', detail=f'{other.path} has the same name')
        result.append(clip)
    return result


def _ordered(clips: list[Listed]) -> tuple[Listed, ...]:
    def key(clip: Listed) -> tuple[int, bytes, str]:
        digest = hashlib.sha256(clip.name.encode()).digest()
        return folder.SPLITS.index(clip.split), digest, clip.path

    return tuple(sorted(clips, key=key))
