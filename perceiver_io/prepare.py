"""Prepares a dataset: `perceiver-io prepare --source=FOLDER --dataset_dir=DIR`.

A run that was stopped continues when it is started again with the same flags.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from perceiver_io import cli
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.data import rendered
from perceiver_io.data.prepare import transcode


def define_flags() -> None:
    flags.DEFINE_string(
        'source',
        None,
        'Folder of the clips; for `rendered`, the folder in which they are drawn if missing.',
        required=True,
    )
    flags.DEFINE_string(
        'dataset_dir', None, 'Folder of prepared datasets, as TFDS lays them out.', required=True
    )
    flags.DEFINE_enum(
        'name',
        'kinetics700_2020',
        ['kinetics700_2020', 'av_folder', 'rendered'],
        'Which dataset: Kinetics in any known layout, a folder with a CSV, or rendered clips.',
    )
    flags.DEFINE_string('csv', 'labels.csv', 'Name of the CSV `file,label[,split]`, if any.')
    flags.DEFINE_integer(
        'workers', None, 'Processes that transcode; by default as many as cores.', lower_bound=0
    )
    flags.DEFINE_bool('keep_original', False, 'Store the files as they are.')
    flags.DEFINE_bool(
        'decoded',
        False,
        'Store frames cropped and resized to 224 x 224, which are faster to read.',
    )
    flags.DEFINE_float('min_seconds', transcode.Settings.min_seconds, 'Reject shorter clips.')
    flags.DEFINE_enum(
        'missing_audio',
        'silence',
        ['silence', 'skip'],
        'Whether a clip without audio is stored as silent, or rejected.',
    )
    flags.DEFINE_string(
        'beam_pipeline_options',
        None,
        'Run on Apache Beam with these options, separated by commas, with or without dashes: '
        'runner=DirectRunner.',
    )


def main(argv: Sequence[str]) -> int:
    if len(argv) > 1:
        raise UsageError(f'{argv[1]!r} is not a flag: give the folder as --source=FOLDER')
    values = flags.FLAGS
    for name in ('source', 'dataset_dir'):
        if not values[name].value:
            raise UsageError(f'--{name}= is empty: give it a folder')
    if values.keep_original and values.decoded:
        raise UsageError('--keep_original and --decoded exclude each other: set one of them')
    source = pathlib.Path(values.source).expanduser()
    dataset_dir = pathlib.Path(values.dataset_dir).expanduser()
    if values.name == 'rendered':
        files.make_folder(dataset_dir, '--dataset_dir')  # before the clips are drawn
        source = rendered.render_folder(source)
    elif not source.is_dir():
        raise UserError(f'no folder {source}: give the folder that holds the clips as --source')
    options = values.beam_pipeline_options
    if options is not None:
        options = _beam_options(options)
    logging.set_verbosity(logging.ERROR)  # TFDS warns that the dataset does not exist yet
    import tensorflow_datasets as tfds  # slow, and the workers import this module too

    from perceiver_io.data.prepare import tfds_builders

    config = 'original' if values.keep_original else 'decoded' if values.decoded else 'transcoded'
    builder = tfds_builders.BUILDERS[values.name](
        data_dir=dataset_dir,
        config=config,
        workers=values.workers,
        min_seconds=values.min_seconds,
        missing_audio=values.missing_audio,
        csv=values.csv,
    )
    prepared = builder.is_prepared()
    if prepared:
        builder.check_settings(source)
    else:
        files.make_folder(dataset_dir, '--dataset_dir')
    try:
        builder.download_and_prepare(
            download_dir=builder.work_folder(),
            download_config=tfds.download.DownloadConfig(
                manual_dir=source, beam_options=options, try_download_gcs=False
            ),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt('the same command continues where it stopped') from None
    builder.remove_work_folder()
    print(builder.summary())
    if prepared:
        print(
            f'was prepared before in {builder.data_path}: what has changed in {source} since then '
            'is not in it; to prepare again, delete it or give another --dataset_dir'
        )
    else:
        print(f'prepared in {builder.data_path}')
    return 0


def _beam_options(text: str) -> Any:
    """Apache Beam's PipelineOptions; UserError if Beam or the runner is missing."""
    try:
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners import runner as beam_runner
    except ImportError as error:
        raise UserError(
            '--beam_pipeline_options needs Apache Beam: pip install -r '
            'requirements-beam.txt, or leave it out'
        ) from error
    # Beam ignores options that it does not know, and so it would ignore `----runner`.
    flags_of = [option.strip().lstrip('-') for option in text.split(',')]
    options = PipelineOptions(flags=[f'--{option}' for option in flags_of if option])
    name = options.view_as(StandardOptions).runner
    try:
        if name:
            beam_runner.create_runner(name)
    except (ImportError, ValueError) as error:
        raise UsageError(f'--beam_pipeline_options: runner={name}: {error}') from error
    return options


if __name__ == '__main__':
    cli.run(main, define_flags)
