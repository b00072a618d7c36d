"""The datasets as TFDS builders: `kinetics700_2020`, `av_folder` and `rendered`.

They read the folder of clips that TFDS calls `manual_dir`, and write ArrayRecord files without
TensorFlow. TFDS's own writers are not used: they need TensorFlow where a split has more than a
gigabyte, and start again after an interruption.
"""

import collections
import dataclasses
import errno
import functools
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
from perceiver_io.data.prepare import shard_work, transcode, trees
from perceiver_io.data.records import MissingAudio


@dataclasses.dataclass(eq=False)
class Form(tfds.core.BuilderConfig):
    """The form in which clips are stored: transcoded, the original files, or decoded frames."""

    keep_original: bool = False
    decoded: bool = False


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: these datasets are not in TFDS's bucket."""


class ClipsBuilder(  # type: ignore[call-arg]
    dataset_builder.FileReaderBuilder,
    skip_registration=True,
):
    """The base of the three datasets.

    Besides TFDS's files, the folder of a dataset holds `rejects.csv`, and for each split an
    `index_SPLIT.npz` with the arrays name, label, seconds and has_audio in the order of the
    records. `info.metadata` has the counts, the settings and the source.

    Args:
        workers: processes that transcode; 0 transcodes in this process, None starts one per core.
        min_seconds: shorter clips are rejected.
        missing_audio: what happens to a clip without audio: 'silence', or 'skip' to reject it.
        csv: name of the CSV in the folder, if a CSV lists the clips.
        **kwargs: arguments of a TFDS builder.
    """

    VERSION = tfds.core.Version('1.0.0')
    RELEASE_NOTES = {'1.0.0': 'First form.'}
    MANUAL_DOWNLOAD_INSTRUCTIONS = 'Give the folder that holds the clips.'
    BUILDER_CONFIGS = [
        Form(name='transcoded', description='H.264 at 25 frames/s, short side 256; AAC at 48 kHz.'),
        Form(name='original', description='The files as they are.', keep_original=True),
        Form(
            name='decoded',
            description='MPEG-2 at 25 frames/s, squares of 224; FLAC at 48 kHz.',
            decoded=True,
        ),
    ]
    classes: tuple[str, ...] | None = None  # None for the labels of the CSV

    def __init__(
        self,
        *,
        workers: int | None = None,
        min_seconds: float = transcode.Settings.min_seconds,
        missing_audio: MissingAudio = 'silence',
        csv: str = 'labels.csv',
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault('file_format', 'array_record')
        super().__init__(**kwargs)
        self._workers = (os.cpu_count() or 1) if workers is None else workers
        self._csv = csv
        form = self.builder_config
        self._settings = transcode.Settings(
            form.keep_original, form.decoded, min_seconds, missing_audio
        )

    def _list(self, source: pathlib.Path) -> trees.Listing:
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description='Clips with video, audio and class, as media files.',
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
        work = shard_work.Work(
            self.work_folder(),
            self._settings,
            functools.partial(_write_shard, classes=listing.classes),
        )
        shards = shard_work.cut(listing.clips, shard_work.SHARD_CLIPS)
        with work.locked():
            self._remove_leftovers()
            if download_config.beam_options or download_config.beam_runner:
                done = _run_with_beam(work, shards, download_config)
            else:
                done = work.run(shards, self._workers)
            self._put_into_place(source, listing, shards, done)

    def _log_download_bytes(self) -> None:
        print(f'preparing {self.name} into {self.data_path}')

    def _log_download_done(self) -> None:
        pass  # `summary` says more

    def check_settings(self, source: pathlib.Path) -> None:
        """UserError where this dataset was prepared before from another source or otherwise.

        What `metadata.json` does not have, as in datasets of other versions, is not compared.
        """
        now = {
            'source': str(source.resolve()),
            'csv': self._csv,
            'settings': dataclasses.asdict(self._settings),
        }
        words = {'source': 'from', 'csv': 'from the CSV', 'settings': 'with'}
        for key, value in now.items():
            before = (self.info.metadata or {}).get(key, value)
            if isinstance(value, dict):
                value = {name: value[name] for name in value if name in before}
            if before != value:
                raise UserError(
                    f'{self.data_path} was prepared {words[key]} {before}, not {words[key]} '
                    f'{value}: give the same, or another --dataset_dir, or delete it'
                )

    def summary(self) -> str:
        """The counts of each split, in lines."""
        lines = []
        for split, counts in (self.info.metadata or {}).get('counts', {}).items():
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
        """Removes the work folder of a prepared dataset, also if that was interrupted before."""
        shutil.rmtree(self.work_folder(), ignore_errors=True)

    def work_folder(self) -> pathlib.Path:
        """The folder of finished shards until all are finished."""
        # Beside the dataset's folder, which has another name while it is written.
        return pathlib.Path(self.data_path).parent / f'.{self.version}.work'

    def _remove_leftovers(self) -> None:
        """Removes the incomplete folders of earlier runs, which were killed."""
        own = pathlib.Path(self.data_path)
        for path in own.parent.glob(f'incomplete.*_{self.version}'):
            if path.name != own.name:
                shutil.rmtree(path)

    def _put_into_place(
        self,
        source: pathlib.Path,
        listing: trees.Listing,
        shards: Sequence[Sequence[trees.Listed]],
        done: Sequence[shard_work.Shard],
    ) -> None:
        folder = pathlib.Path(self.data_path)
        rejects = [reject for shard in done for reject in shard.rejects]
        split_infos, counts = [], {}
        for split in dict.fromkeys(clips[0].split for clips in shards):
            parts = [
                (shard.path, shard.examples)
                for shard, clips in zip(done, shards)
                if clips[0].split == split and shard.path
            ]
            examples = [example for _, part in parts for example in part]
            reasons = collections.Counter(each.reason for each in rejects if each.split == split)
            counts[split] = {'examples': len(examples), 'rejects': dict(sorted(reasons.items()))}
            if not examples:
                continue  # TFDS has no empty splits
            template = self._get_filename_template(split)
            for number, (path, _) in enumerate(parts):
                _link(path, template.sharded_filepath(shard_index=number, num_shards=len(parts)))
            shard_work.write_index(folder / f'index_{split}.npz', examples)
            split_infos.append(
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[len(part) for _, part in parts],
                    num_bytes=sum(path.stat().st_size for path, _ in parts),
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
        files.write_csv(
            folder / 'rejects.csv',
            [reject._asdict() for reject in rejects],
            columns=shard_work.Reject._fields,
        )
        self.info.set_splits(tfds.core.SplitDict(split_infos))
        self.info.metadata.update(
            counts=counts,
            settings=dataclasses.asdict(self._settings),
            decoded_side=transcode.DECODED_SIDE if self._settings.decoded else None,
            found=listing.kind,
            notes=list(listing.notes),
            source=str(source.resolve()),
            csv=self._csv,
        )


class Kinetics700_2020(ClipsBuilder):  # noqa: N801, TFDS's name of it is the class's
    """Kinetics-700-2020, from any of the trees that `trees.list_kinetics` knows."""

    name = 'kinetics700_2020'
    classes = CLASSES

    def _list(self, source: pathlib.Path) -> trees.Listing:
        return trees.list_kinetics(source, self._csv)


class AvFolder(ClipsBuilder):
    """A folder of clips with a CSV `file,label[,split]`."""

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
            # Text stores bytes unchanged, and does not need TensorFlow.
            'media': tfds.features.Text(doc='A media file.'),
            'name': tfds.features.Text(doc='Name of the clip, unique in its split.'),
            'label': tfds.features.ClassLabel(names=classes and list(classes), doc='-1: withheld.'),
            'seconds': tfds.features.Scalar(np.float32, doc='Of video; exact in the index.'),
            'has_audio': tfds.features.Scalar(np.bool_, doc='Whether there is audio.'),
        }
    )


def _write_shard(
    path: pathlib.Path, records: Iterator[tuple[shard_work.Example, bytes]], classes: Sequence[str]
) -> None:
    encoder = features(classes)
    serializer = example_serializer.ExampleSerializer(encoder.get_serialized_info())
    serialized = (
        # Deterministic: otherwise the order of the features differs between processes.
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
    except RuntimeError as error:  # ArrayRecord raises this where the disk is full
        raise OSError(errno.EIO, f'cannot write a shard: {error}') from error


def _run_with_beam(
    work: shard_work.Work,
    shards: Sequence[Sequence[trees.Listed]],
    config: tfds.download.DownloadConfig,
) -> list[shard_work.Shard]:
    """Processes the shards on Beam's workers, which share the work folder with this process."""
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
    return [work.do_shard(clips) for clips in shards]  # only reads what they contain


def _do_plan(work: shard_work.Work, plan: str) -> None:
    clips = json.loads(pathlib.Path(plan).read_text())
    work.do_shard([trees.Listed(*clip) for clip in clips])


def _link(path: pathlib.Path, target: str | os.PathLike[str]) -> None:
    """Gives the file a second name, so that an interruption loses nothing, or copies it."""
    try:
        os.link(path, target)
    except OSError:  # not every file system has hard links
        shutil.copyfile(path, target)
