"""Writes datasets of the form that `data.prepared` reads, by TFDS itself: small ones, for tests."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from perceiver_io.media import reader


class TestClips(tfds.core.GeneratorBasedBuilder):
    """Media files as they are, in the order of the list.

    Args:
        clips: for each split, (path, name, label index) of each clip.
        classes: names of the label indices.
        data_dir: the folder of all datasets.
    """

    VERSION = tfds.core.Version('1.0.0')
    name = 'test_clips'

    def __init__(
        self,
        *,
        clips: Mapping[str, Sequence[tuple[pathlib.Path, str, int]]],
        classes: Sequence[str],
        **kwargs,
    ):
        self._clips = clips
        self._classes = classes
        super().__init__(file_format='array_record', **kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    'media': tfds.features.Text(),
                    'name': tfds.features.Text(),
                    'label': tfds.features.ClassLabel(names=self._classes),
                    'seconds': np.float64,
                    'has_audio': np.bool_,
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self._clips}

    def _generate_examples(self, split):
        yield from enumerate(self.examples(split))

    def examples(self, split):
        for path, name, label in self._clips[split]:
            info = reader.probe(path)
            yield {
                'media': path.read_bytes(),
                'name': name,
                'label': label,
                'seconds': info.seconds,
                'has_audio': info.has_audio,
            }


def write_dataset(root: pathlib.Path, clips, classes: Sequence[str]) -> pathlib.Path:
    """Writes the dataset `test_clips` below `root`, and returns its folder."""
    builder = TestClips(clips=clips, classes=classes, data_dir=root)
    builder.download_and_prepare()
    folder = pathlib.Path(builder.data_dir)
    for split in clips:
        examples = list(builder.examples(split))
        columns = {
            key: np.array([example[key] for example in examples])
            for key in ('name', 'label', 'seconds', 'has_audio')
        }
        np.savez(folder / f'index_{split}.npz', **columns)
    return folder
