"""A dataset that `prepare` or `tfds build` wrote, as a source of clips, without TensorFlow.

Its folder also holds `index_<split>.npz`, the arrays `name`, `label`, `seconds` and `has_audio` in
the order of the records, so that the clips are known without reading the shards.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple, overload

import numpy as np
import tensorflow_datasets as tfds

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data.records import (
    Record,
    Selection,
    Source,
    choose_classes,
    in_fraction,
    none_usable,
)
from perceiver_io.media.reader import UnreadableMedia

_INFO = 'dataset_info.json'  # TFDS writes this file into the folder of every dataset


def open_prepared(root: str | os.PathLike[str], selection: Selection, dataset: str = '') -> Source:
    """Opens a split.

    Args:
        root: the folder given to `prepare` as `--dataset_dir`.
        selection: which clips are used; its default classes are those of the dataset.
        dataset: which one below `root`, as `NAME` or `NAME/CONFIG/VERSION`; see `find_dataset`.

    Raises:
        UserError: there is no such dataset or split, or none of its clips can be used; says what to
            change.
    """
    folder = find_dataset(root, dataset)
    builder = tfds.builder_from_directory(folder)
    split = selection.split
    if split not in builder.info.splits:
        raise UserError(
            f'{folder} has no {split=}: choose one of {", ".join(sorted(builder.info.splits))}'
        )
    _check_side((builder.info.metadata or {}).get('decoded_side'), folder, selection.spec)
    index = _Index.load(folder, split)
    own = builder.info.features['label'].names
    classes = choose_classes(own, selection.classes, selection.only)
    new_label = {name: label for label, name in enumerate(classes)}
    new_labels = np.array([new_label.get(name, -1) for name in own] + [-1], np.int32)
    labels = new_labels[index.label]  # -1 is the last element, and stays -1

    only = selection.only
    wanted = [own.index(name) for name in only or own] + [-1] * (not only)
    chosen = np.isin(index.label, wanted)
    if selection.fraction < 1:
        chosen &= [in_fraction(name.decode(), selection.fraction) for name in index.name]
    rows, skipped = [], []
    for row in np.flatnonzero(chosen).tolist():
        if selection.needs_label and labels[row] < 0:
            reason: str | None = 'it has no label'
        else:
            reason = selection.why_unusable(
                True, bool(index.has_audio[row]), float(index.seconds[row])
            )
        if reason:
            skipped.append((index.name[row].decode(), reason))
        else:
            rows.append(row)
    if not rows:
        raise none_usable(f'the split {split!r} of {folder}', skipped)
    places = np.array(rows, np.int32)
    return Source(StoredClips(folder, split, places, labels[places]), classes, tuple(skipped))


def _check_side(side: int | None, folder: pathlib.Path, spec: ClipSpec) -> None:
    if side and spec.video and max(spec.height, spec.width) > side:
        raise UserError(
            f'{folder} stores {side} x {side} pixels, fewer than the windows of {spec.height} x '
            f'{spec.width}: set data.dataset to a transcoded one, or prepare one without --decoded'
        )


def describe(root: str | os.PathLike[str], dataset: str = '') -> str:
    """One line: which dataset it is, and the form of its clips."""
    folder = find_dataset(root, dataset)
    info = tfds.builder_from_directory(folder).info
    form = info.config_description or 'media files'
    return f'{folder.relative_to(pathlib.Path(root).expanduser())}: {form}'


def class_names(root: str | os.PathLike[str], dataset: str = '') -> list[str]:
    """The classes of the dataset, by index."""
    return tfds.builder_from_directory(find_dataset(root, dataset)).info.features['label'].names


def find_dataset(root: str | os.PathLike[str], dataset: str = '') -> pathlib.Path:
    """The folder of the dataset below `root` / `dataset`; UserError if there is none.

    If a dataset was prepared in several forms, the transcoded one is chosen.
    """
    root = pathlib.Path(root).expanduser()
    found = sorted(info.parent for info in (root / dataset).rglob(_INFO))
    if not found:
        others = sorted(str(info.parent.relative_to(root)) for info in root.rglob(_INFO))
        raise UserError(
            f'no prepared dataset in {root / dataset}: '
            + (
                f'set data.dataset to one of {", ".join(others)}'
                if others
                else 'make one with perceiver-io prepare'
            )
        )
    transcoded = [folder for folder in found if 'transcoded' in folder.relative_to(root).parts]
    if len(found) > 1 and len(transcoded) != 1:
        names = ', '.join(str(each.relative_to(root)) for each in found)
        raise UserError(
            f'{len(found)} prepared datasets in {root / dataset}: set data.dataset (inspect: '
            f'--dataset) to one of {names}'
        )
    return found[0] if len(found) == 1 else transcoded[0]


class StoredClips(Sequence[Record]):
    """Records of a prepared split, each created when it is asked for.

    Pickling stores the folder of the dataset and the rows of the split, not the records.

    Args:
        folder: of the dataset.
        split: the name of the split.
        rows: int32 [number of records], places in the split.
        labels: int32 [number of records], the class of each.
    """

    def __init__(
        self, folder: pathlib.Path, split: str, rows: np.ndarray, labels: np.ndarray
    ) -> None:
        self._folder, self._split, self._rows, self._labels = folder, split, rows, labels
        self._index = _Index.load(folder, split)
        self._media = tfds.builder_from_directory(folder).as_data_source(split)
        if len(self._media) != len(self._index.name):
            raise UserError(
                f'the split {split!r} of {folder} has {len(self._media)} clips and its index '
                f'{len(self._index.name)}: prepare it again'
            )

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> 'StoredClips': ...

    def __getitem__(self, place: int | slice) -> 'Record | StoredClips':
        if isinstance(place, slice):
            return StoredClips(self._folder, self._split, self._rows[place], self._labels[place])
        row = int(self._rows[place])
        index = self._index
        return Record(
            _StoredClip(self._media, row),
            index.name[row].decode(),
            int(self._labels[place]),
            float(index.seconds[row]),
            bool(index.has_audio[row]),
        )

    def __reduce__(self) -> tuple[type['StoredClips'], tuple[Any, ...]]:
        return StoredClips, (self._folder, self._split, self._rows, self._labels)


@dataclasses.dataclass(frozen=True)
class _StoredClip:
    """The media file of one example."""

    media: Sequence
    row: int

    def read(self) -> bytes:
        try:
            return bytes(self.media[self.row]['media'])
        except Exception as error:  # array_record and TFDS raise many types
            raise UnreadableMedia(f'its dataset cannot be read there: {error}') from error


class _Index(NamedTuple):
    """Arrays [n] with an element for each record; names are bytes in UTF-8."""

    name: np.ndarray
    label: np.ndarray
    seconds: np.ndarray
    has_audio: np.ndarray

    @classmethod
    def load(cls, folder: pathlib.Path, split: str) -> '_Index':
        path = folder / f'index_{split}.npz'
        if not path.is_file():
            raise UserError(f'no {path}: prepare the dataset again')
        with np.load(path, allow_pickle=False) as arrays:
            return cls(
                np.char.encode(arrays['name'], 'utf-8'),
                arrays['label'],
                arrays['seconds'],
                arrays['has_audio'],
            )
