"""The datasets as TFDS builders: `kinetics700_2020`, `av_folder` and `rendered`.

They read the folder of clips that TFDS calls `manual_dir`, and write ArrayRecord files without
TensorFlow. TFDS's own writers are passed by: they need TensorFlow where a split has more than a
gigabyte, and begin again after an interruption.
"""

import collections
import csv
import dataclasses
import errno
import functools
import io
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder, example_serializer, file_adapters

from perceiver_io.core import files
from perceiver_io.core.errors import UserError
from perceiver_io.core.kinetics700 import CLASSES
from perceiver_io.data import rendered
from perceiver_io.data.prepare import preparation, transcode, trees


@dataclasses.dataclass(eq=False)
class Form(tfds.core.BuilderConfig):
    """The form in which clips are stored."""

    keep_original: bool = False


class ClipsBuilder(dataset_builder.FileReaderBuilder, skip_registration=True):
    """What the three have in common.

    Besides TFDS's files, a dataset's folder holds `rejects.csv`, and for each split an
    `index_SPLIT.npz` with the arrays name, label, seconds and has_audio in the order of the
    records. `info.metadata` has the counts and the settings.

    Args:
        workers: processes that transcode; 0 works in this one, None takes as many as cores.
        min_seconds: shorter clips are rejected.
        missing_audio: what a clip without sound is: 'silence', or 'skip' to reject it.
        csv: name of the CSV in the folder, where it is a CSV that lists the clips.
        **kwargs: those of a TFDS builder.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First form.'}
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'Give the folder that holds the clips.'
    BUILDER_CONFIGS = [
        Form(name='transcoded', description='H.264 at 25 frames/s, short side 256; AAC at 48 kHz.'),
        Form(name='original', description='The files as they are.', keep_original=True),
    ]
    classes: tuple[str, ...] | None = None  # None: those that the CSV names

    def __init__(
        self,
        *,
        workers: int | None = None,
        min_seconds: float = transcode.Settings.min_seconds,
        missing_audio: str = 'silence',
        csv: str = 'labels.csv',
        **kwargs: Any,
    ):
        kwargs.setdefault('file_format', 'array_record')
        super().__init__(**kwargs)
        self._workers = os.cpu_count() if workers is None else workers
        self._csv = csv
        self._settings = transcode.Settings(
            self.builder_config.keep_original, min_seconds, missing_audio
        )

    def _list(self, source: pathlib.Path) -> trees.Listing:
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description='Clips with picture, sound and class, as media files.',
            features=features(self.classes),
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        source = pathlib.Path(dl_manager.manual_dir)
        listing = self._list(source)
        print(f'found {listing.kind}')
        for note in listing.notes:
            print(note)
        if self.classes is None:
            self.info.features['label'].names = list(listing.classes)
        work = preparation.Work(
            self.work_folder(),
            self._settings,
            functools.partial(_write_shard, classes=listing.classes),
        )
        shards = preparation.cut(listing.clips, preparation.SHARD_CLIPS)
        with work.locked():
            self._remove_leftovers()
            if download_config.beam_options or download_config.beam_runner:
                done = _run_with_beam(work, shards, download_config)
            else:
                done = work.run(shards, self._workers)
            self._put_into_place(source, listing, shards, done)

    def check_settings(self, source: pathlib.Path) -> None:
        """UserError where this dataset was prepared before, of other clips or otherwise."""
        if self.info.metadata['source'] != str(source.resolve()):
            raise UserError(
                f'{self.data_path} was prepared from {self.info.metadata["source"]}, '
                f'not from {source}: give another --dataset_dir, or delete it'
            )
        before, now = self.info.metadata['settings'], dataclasses.asdict(self._settings)
        if before != now:
            raise UserError(
                f'{self.data_path} was prepared with {before}, not with {now}: give '
                'the same settings or another --dataset_dir, or delete it'
            )

    def summary(self) -> str:
        """The counts of each split, in lines."""
        lines = []
        for split, counts in self.info.metadata['counts'].items():
            rejects = counts['rejects']
            reasons = ', '.join(f'{count} {reason}' for reason, count in rejects.items())
            lines.append(
                f'{split}: {counts["examples"]:,} clips, {sum(rejects.values()):,} '
                f'rejected{f" ({reasons})" if reasons else ""}'
            )
        return '\n'.join(lines)

    def _post_download_and_prepare_hook(self) -> None:
        self.remove_work_folder()

    def remove_work_folder(self) -> None:
        """Removes it once the dataset is prepared; that too may have been interrupted."""
        shutil.rmtree(self.work_folder(), ignore_errors=True)

    def work_folder(self) -> pathlib.Path:
        """Where what is done lies until everything is."""
        # Beside the dataset's folder, which while it is written has another name.
        return pathlib.Path(self.data_path).parent / f'.{self.version}.work'

    def _remove_leftovers(self) -> None:
        """Removes what earlier runs, which no longer live, had begun to put into place."""
        own = pathlib.Path(self.data_path)
        for path in own.parent.glob(f'incomplete.*_{self.version}'):
            if path.name != own.name:
                shutil.rmtree(path)

    def _put_into_place(
        self,
        source: pathlib.Path,
        listing: trees.Listing,
        shards: Sequence[Sequence[trees.Listed]],
        done: Sequence[preparation.Shard],
    ) -> None:
        folder = pathlib.Path(self.data_path)
        rejects = [reject for shard in done for reject in shard.rejects]
        split_infos, counts = [], {}
        for split in dict.fromkeys(clips[0].split for clips in shards):
            parts = [
                shard
                for shard, clips in zip(done, shards)
                if clips[0].split == split and shard.path
            ]
            examples = [example for shard in parts for example in shard.examples]
            reasons = collections.Counter(each.reason for each in rejects if each.split == split)
            counts[split] = {'examples': len(examples), 'rejects': dict(sorted(reasons.items()))}
            if not examples:
                continue  # TFDS has no empty splits
            template = self._get_filename_template(split)
            for number, shard in enumerate(parts):
                _link(
                    shard.path, template.sharded_filepath(shard_index=number, num_shards=len(parts))
                )
            preparation.write_index(folder / f'index_{split}.npz', examples)
            split_infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[len(shard.examples) for shard in parts],
                    num_bytes=sum(shard.path.stat().st_size for shard in parts),
                    filename_template=template,
                )
            )
        if not split_infos:
            reasons = collections.Counter(each.reason for each in rejects)
            found = ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())
            raise UserError(
                f'no clip can be used: {found or "none is listed"}; give another '
                'folder or other settings'
            )
        _write_rejects(folder / 'rejects.csv', rejects)
        self.info.set_splits(tfds.core.SplitDict(split_infos))
        self.info.metadata.update(
            counts=counts,
            settings=dataclasses.asdict(self._settings),
            found=listing.kind,
            notes=list(listing.notes),
            source=str(source.resolve()),
        )


class Kinetics700_2020(ClipsBuilder):  # noqa: N801, TFDS's name of it is the class's
    """Kinetics-700-2020, from any of the trees that `trees.list_kinetics` knows."""

    name = 'kinetics700_2020'
    classes = CLASSES

    def _list(self, source: pathlib.Path) -> trees.Listing:
        return trees.list_kinetics(source, self._csv)


class AvFolder(ClipsBuilder):
    """Any folder of clips with a CSV `file,label[,split]`."""

    name = 'av_folder'

    def _list(self, source: pathlib.Path) -> trees.Listing:
        return trees.list_folder(source, self._csv)


class Rendered(ClipsBuilder):
    """The clips that `rendered.render_folder` drew into the folder."""

    name = 'rendered'
    classes = rendered.CLASSES

    def _list(self, source: pathlib.Path) -> trees.Listing:
        listing = trees.list_folder(source)
        index = {name: number for number, name in enumerate(rendered.CLASSES)}
        clips = tuple(clip._replace(label=index[clip.class_name]) for clip in listing.clips)
        return dataclasses.replace(listing, clips=clips, classes=rendered.CLASSES)


BUILDERS = {builder.name: builder for builder in (Kinetics700_2020, AvFolder, Rendered)}


def features(classes: Sequence[str] | None) -> tfds.features.FeaturesDict:
    """The features of an example; `media` is read as bytes."""
    return tfds.features.FeaturesDict(
        {
            # Text is the feature that holds bytes as they are and needs no TensorFlow.
            'media': tfds.features.Text(doc='A media file.'),
            'name': tfds.features.Text(doc='Of the clip, unique in its split.'),
            'label': tfds.features.ClassLabel(names=classes and list(classes), doc='-1: withheld.'),
            'seconds': tfds.features.Scalar(np.float32, doc='Of picture; exact in the index.'),
            'has_audio': tfds.features.Scalar(np.bool_, doc='Whether there is sound.'),
        }
    )


def _write_shard(
    path: pathlib.Path, records: Iterator[tuple[preparation.Example, bytes]], classes: Sequence[str]
) -> None:
    encoder = features(classes)
    serializer = example_serializer.ExampleSerializer(encoder.get_serialized_info())
    serialized = (
        # Deterministic: otherwise the order of the features is another in every process.
        (
            index,
            serializer.get_tf_example(
                encoder.encode_example(example._asdict() | {'media': media})
            ).SerializeToString(deterministic=True),
        )
        for index, (example, media) in enumerate(records)
    )
    try:
        file_adapters.ArrayRecordFileAdapter.write_examples(path, serialized)
    except RuntimeError as error:  # so says ArrayRecord that a disk is full, say
        raise OSError(errno.EIO, f'cannot write a shard: {error}') from error


def _run_with_beam(
    work: preparation.Work,
    shards: Sequence[Sequence[trees.Listed]],
    config: tfds.download.DownloadConfig,
) -> list[preparation.Shard]:
    """Does the shards on Beam's workers. They share the work folder with this process."""
    import apache_beam as beam  # an optional requirement

    plans = []
    for number, clips in enumerate(shards):
        plans.append(str(work.folder / f'plan_{number:05d}.json'))
        files.write_text(pathlib.Path(plans[-1]), json.dumps(clips))
    options = config.beam_options or beam.options.pipeline_options.PipelineOptions()
    with beam.Pipeline(runner=config.beam_runner, options=options) as pipeline:
        _ = (
            pipeline
            | beam.Create(plans)
            | beam.Reshuffle()
            | beam.Map(functools.partial(_do_plan, work))
        )
    return [work.do_shard(clips) for clips in shards]  # done: this reads what is in them


def _do_plan(work: preparation.Work, plan: str) -> None:
    clips = json.loads(pathlib.Path(plan).read_text())
    work.do_shard([trees.Listed(*clip) for clip in clips])


def _link(path: pathlib.Path, target: os.PathLike) -> None:
    """Gives the file a second name, so that an interruption loses nothing; or copies it."""
    try:
        os.link(path, target)
    except OSError:  # some file systems know no second names
        shutil.copyfile(path, target)


def _write_rejects(path: pathlib.Path, rejects: Sequence[preparation.Reject]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(preparation.Reject._fields)
    writer.writerows(rejects)
    files.write_text(path, text.getvalue())
