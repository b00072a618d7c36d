"""Prepares a dataset: `python -m perceiver_io.prepare --source=FOLDER --dataset_dir=DIR`.

Stopped and started again with the same flags, it goes on where it was.
"""

import pathlib

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
        'Folder of the clips; for `rendered`, one where they are drawn if they are not there.',
        required=True,
    )
    flags.DEFINE_string(
        'dataset_dir', None, 'Folder of prepared datasets, as TFDS lays them out.', required=True
    )
    flags.DEFINE_enum(
        'name',
        'kinetics700_2020',
        ['kinetics700_2020', 'av_folder', 'rendered'],
        'Which dataset: Kinetics in any tree, a folder with a CSV, or drawn clips.',
    )
    flags.DEFINE_string('csv', 'labels.csv', 'Name of the CSV `file,label[,split]`, if any.')
    flags.DEFINE_integer(
        'workers', None, 'Processes that transcode; by default as many as cores.', lower_bound=0
    )
    flags.DEFINE_bool('keep_original', False, 'Store the files as they are.')
    flags.DEFINE_float('min_seconds', transcode.Settings.min_seconds, 'Reject shorter clips.')
    flags.DEFINE_enum(
        'missing_audio',
        'silence',
        ['silence', 'skip'],
        'What a clip without sound is: silent, or rejected.',
    )
    flags.DEFINE_string(
        'beam_pipeline_options',
        None,
        'Run on Apache Beam with these options, '
        'without dashes and with commas between: runner=DirectRunner.',
    )


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise UsageError(f'{argv[1]!r} is no flag: give the folder as --source=FOLDER')
    values = flags.FLAGS
    for name in ('source', 'dataset_dir'):
        if not values[name].value:
            raise UsageError(f'--{name}= is empty: give it a folder')
    source = pathlib.Path(values.source).expanduser()
    if values.name == 'rendered':
        files.make_folder(values.dataset_dir, '--dataset_dir')  # before the clips are drawn
        source = rendered.render_folder(source)
    elif not source.is_dir():
        raise UserError(f'no folder {source}: give the folder that holds the clips as --source')
    options = values.beam_pipeline_options
    if options is not None:
        options = _beam_options(options)
    logging.set_verbosity(logging.ERROR)  # TFDS warns that the dataset is not there yet
    import tensorflow_datasets as tfds  # slow, and the workers import this module too

    from perceiver_io.data.prepare import tfds_builders

    config = 'original' if values.keep_original else 'transcoded'
    builder = tfds_builders.BUILDERS[values.name](
        data_dir=values.dataset_dir,
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
        files.make_folder(values.dataset_dir, '--dataset_dir')
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
    print(f'{"was prepared before" if prepared else "prepared"} in {builder.data_path}')
    return 0


def _beam_options(text: str):
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise UserError(
            '--beam_pipeline_options needs Apache Beam: pip install -r '
            'requirements-beam.txt, or leave it out'
        ) from error
    # Beam passes over what it does not know, so also over a runner with four dashes.
    options = [option.strip().lstrip('-') for option in text.split(',')]
    return PipelineOptions(flags=[f'--{option}' for option in options if option])


if __name__ == '__main__':
    cli.run(main, define_flags)
