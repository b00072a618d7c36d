"""Runs `prepare` as users do, and reads what it wrote."""

import csv
import pathlib
import sys
from typing import Any

import tensorflow_datasets as tfds

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


def examples(folder: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """All examples of every split, in order."""
    builder = tfds.builder_from_directory(folder)
    return {split: list(builder.as_data_source(split)) for split in builder.info.splits}


def rejects(folder: pathlib.Path) -> list[tuple[str, str, str]]:
    """(split, file, reason), sorted."""
    with open(folder / 'rejects.csv', newline='') as file:
        return sorted((row['split'], row['file'], row['reason']) for row in csv.DictReader(file))
