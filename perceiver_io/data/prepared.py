"""A dataset that `prepare` or `tfds build` wrote, as a source of clips. TensorFlow is not needed.

Beside its shards lie `index_<split>.npz`, the arrays `name`, `label`, `seconds` and `has_audio` in
the order of the records: what is in half a terabyte is known without reading it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from perceiver_io.core.clip import ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data.records import (
    Record,
    Source,
    check_missing_audio,
    choose_classes,
    in_fraction,
    none_usable,
    unusable,
)
from perceiver_io.media.reader import UnreadableMedia

_INFO = 'dataset_info.json'  # TFDS writes one into the folder of every dataset


def open_prepared(
    root: str | os.PathLike,
    *,
    split: str,
    dataset: str = '',
    spec: ClipSpec,
    classes: Sequence[str] | None = None,
    only: Sequence[str] = (),
    fraction: float = 1.0,
    missing_audio: str = 'silence',
    needs_label: bool = True,
) -> Source:
    """Opens a split. The arguments that are not named here are those of `folder.open_folder`.

    Args:
        root: the folder given to `prepare` as `--dataset_dir`.
        split: as the dataset names it.
        dataset: which one below `root`, as `NAME` or `NAME/CONFIG/VERSION`; see `find_dataset`.
        spec: the windows that will be read.
        classes: the class of each index. By default those of the dataset.

    Raises:
        UserError: there is no such dataset or split, or nothing in it to use; says what to change.
    """
    check_missing_audio(missing_audio)
    folder = find_dataset(root, dataset)
    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
        raise UserError(
            f'{folder} has no {split=}: choose one of {", ".join(sorted(builder.info.splits))}'
        )
    index = _Index.load(folder, split)
    own = builder.info.features['label'].names
    classes = choose_classes(own, classes, only)
    new_label = {name: label for label, name in enumerate(classes)}
    new_labels = np.array([new_label.get(name, -1) for name in own] + [-1], np.int32)
    labels = new_labels[index.label]  # the place before the first is the last: -1 stays -1

    chosen = np.isin(index.label, [own.index(name) for name in only or own] + [-1] * (not only))
    if fraction < 1:
        chosen &= [in_fraction(name.decode(), fraction) for name in index.name]
    rows, skipped = [], []
    for row in np.flatnonzero(chosen):
        reason = (
            'it has no label'
            if needs_label and labels[row] < 0
            else unusable(
                True, bool(index.has_audio[row]), float(index.seconds[row]), spec, missing_audio
            )
        )
        if reason:
            skipped.append((index.name[row].decode(), reason))
        else:
            rows.append(row)
    if not rows:
        raise none_usable(f'the split {split!r} of {folder}', skipped)
    rows = np.array(rows, np.int32)
    return Source(StoredClips(folder, split, rows, labels[rows]), classes, tuple(skipped))


def class_names(root: str | os.PathLike, dataset: str = '') -> list[str]:
    """The classes of the dataset, by index."""
    return tfds.builder_from_directory(find_dataset(root, dataset)).info.features['label'].names


def find_dataset(root: str | os.PathLike, dataset: str = '') -> pathlib.Path:
    """The folder of the dataset below `root` / `dataset`; UserError if there is none.

    Of a dataset that was prepared twice, transcoded and with the original files, the former counts.
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
                else 'make one with python -m perceiver_io.prepare'
            )
        )
    transcoded = [folder for folder in found if 'transcoded' in folder.relative_to(root).parts]
    if len(found) > 1 and len(transcoded) != 1:
        raise UserError(
            f'{len(found)} prepared datasets in {root / dataset}: set data.dataset to '
            f'one of {", ".join(str(each.relative_to(root)) for each in found)}'
        )
    return found[0] if len(found) == 1 else transcoded[0]


class StoredClips(Sequence[Record]):
    """Records of a prepared split, each made when it is asked for.

    What goes to a worker process is where the dataset is and which rows of it are meant.

    Args:
        folder: of the dataset.
        split: of it.
        rows: int32 [number of records], places in the split.
        labels: int32 of the same shape, the class of each.
    """

    def __init__(self, folder: pathlib.Path, split: str, rows: np.ndarray, labels: np.ndarray):
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

    def __getitem__(self, place):
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

    def __reduce__(self):
        return StoredClips, (self._folder, self._split, self._rows, self._labels)


@dataclasses.dataclass(frozen=True)
class _StoredClip:
    """One example's media file."""

    media: Sequence
    row: int

    def read(self) -> bytes:
        try:
            return bytes(self.media[self.row]['media'])
        except Exception as error:  # array_record and TFDS raise whatever they like
            raise UnreadableMedia(f'its dataset cannot be read there: {error}') from error


class _Index(NamedTuple):
    """What is known of each record: name (bytes, UTF-8), label, seconds, has_audio; [n] each."""

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
