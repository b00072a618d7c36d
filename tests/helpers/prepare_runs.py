"""Runs `prepare` as users do, and reads what it wrote."""

import contextlib
import csv
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow_datasets as tfds

from perceiver_io.data.prepare import transcode

ROOT = pathlib.Path(__file__).resolve().parents[2]


def command(source: pathlib.Path, data_dir: pathlib.Path, *more: str) -> list[str]:
    return [
        sys.executable,
        '-m',
        'perceiver_io.prepare',
        f'--source={source}',
        f'--dataset_dir={data_dir}',
        *more,
    ]


@contextlib.contextmanager
def stored_clips(interrupt_at: int | None = None) -> Iterator[list[str]]:
    """The paths of the clips that are stored in the context; after so many, Ctrl-C comes."""
    store, stored = transcode.store, []

    def store_some(path: str, *arguments: Any) -> Any:
        if len(stored) == interrupt_at:
            raise KeyboardInterrupt
        stored.append(path)
        return store(path, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transcode, 'store', store_some)
        yield stored


def examples(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """All examples of every split, in order."""
    builder = tfds.builder_from_directory(folder)
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


def rejects(folder: pathlib.Path) -> list[tuple[str, str, str]]:
    """(split, file, reason), sorted."""
    with open(folder / 'rejects.csv', newline='') as file:
        return sorted((row['split'], row['file'], row['reason']) for row in csv.DictReader(file))
