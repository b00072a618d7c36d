"""Trains and evaluates every point of a sweep, and compares them.

    perceiver-io sweep bottleneck --output=DIR [--set=training.steps=100 ...]
    perceiver-io sweep table5 --output=DIR --index=$SLURM_ARRAY_TASK_ID

A sweep is a Python file that names a config, and values of some of its keys: see
perceiver_io/configs/sweeps and docs/sweeps.md. The points run one after the other, each in
processes and a folder of its own. The same command goes on after an interruption, and leaves out
what is finished. Writes DIR/index.html, sweep.md, sweep.csv, sweep.json and sweep.svg.
"""

import ast
import os
import pathlib
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections.config_flags import config_flags

from perceiver_io import cli
from perceiver_io.core import files
from perceiver_io.core.errors import UsageError
from perceiver_io.core.metrics_file import read_metrics
from perceiver_io.core.progress import progress_bar
from perceiver_io.distributed import compilation_cache
from perceiver_io.report import sweep_page
from perceiver_io.sweeps import points, programs
from perceiver_io.sweeps.points import Point, Sweep
from perceiver_io.training import start


def main(arguments: Sequence[str]) -> int:
    values = flags.FLAGS
    compilation_cache.use_from_flag()
    if len(arguments) != 2:
        raise UsageError(
            'name one sweep, as in perceiver-io sweep bottleneck --output=DIR; included are '
            f'{", ".join(points.shipped_sweeps())}'
        )
    sweep = points.read_sweep(arguments[1], parse_values(values.set))
    if values.index is not None and values.index >= len(sweep.points):
        raise UsageError(
            f'--index={values.index}: the sweep {sweep.name} has the points 0 to '
            f'{len(sweep.points) - 1}'
        )
    configs = complete_configs(sweep)
    folder = files.make_folder(values.output, '--output')
    chosen = [point for point in sweep.points if values.index in (None, point.index)]
    options = ['--videos=0', '--report' if values.report else '--noreport']
    try:
        failed = run_points(chosen, configs, folder, options)
    except programs.SweepStopped as stopped:
        print(f'{stopped}; to continue: {cli.command_line()}', file=sys.stderr)
        return 128 + signal.SIGINT if stopped.signal == signal.SIGINT else os.EX_OK
    compare(sweep, configs, folder)
    for line in failed:
        print(f'error: {line}', file=sys.stderr)
    return int(bool(failed))


def define_flags() -> None:
    flags.DEFINE_string('output', None, 'Folder for the points and the comparison.', required=True)
    flags.DEFINE_integer('index', None, 'Runs one point, counted from 0.', lower_bound=0)
    flags.DEFINE_multi_string('set', [], 'KEY=VALUE of the config, for all points.')
    flags.DEFINE_bool('report', True, 'Whether each point gets a report, with players and plots.')
    compilation_cache.define_flags()


def parse_values(given: Sequence[str]) -> dict[str, Any]:
    """{key: value} of `KEY=VALUE`s; a value that is no Python literal is text."""
    values: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition('=')
        if not equals or not key:
            raise UsageError(f'--set={text} must be KEY=VALUE, as in --set=training.steps=100')
        try:
            values[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            values[key] = value
    return values


def complete_configs(sweep: Sweep) -> list[dict[str, Any]]:
    """The config of every point; UsageError if one of them is wrong, before any is trained."""
    path = cli.resolve_config(['', f'--config={sweep.base}'])[1].partition('=')[2]
    try:
        base = config_flags.ConfigFileFlagParser('sweep').parse(path).to_dict()
    except Exception as error:  # of the user's code
        raise UsageError(
            f'the config {sweep.base} cannot be used: {type(error).__name__}: {error}'
        ) from error
    configs = []
    for point in sweep.points:
        config = points.overridden(base, point.values)
        if not config.get('init_from'):
            try:
                start.experiment_of(config)
            except UsageError as error:
                raise UsageError(f'point {point.index} ({point.title}): {error}') from error
        configs.append(config)
    return configs


def run_points(
    chosen: Sequence[Point],
    configs: Sequence[Mapping[str, Any]],
    folder: pathlib.Path,
    options: Sequence[str],
) -> list[str]:
    """Trains and evaluates points; returns a line for each that failed."""
    failed = []
    with progress_bar(
        total=float(len(chosen)),
        bar_format='{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}',
    ) as bar:
        for done, point in enumerate(chosen):
            name = f'point {point.index} ({point.title})'
            bar.set_description(name)
            own = folder / point.folder
            config = points.config_file(point.title, configs[point.index])
            if programs.is_finished(own, config):
                bar.write(f'{name} is finished already', file=sys.stderr)
                bar.total -= 1  # so that the time left is that of the others
                bar.refresh()
                continue
            own.mkdir(exist_ok=True)
            training = configs[point.index]['training']
            size = f'--batch_size={training["eval_batch_size"]}'

            def show(share: float, before: float = bar.n) -> None:
                bar.update(before + share - bar.n)

            try:
                programs.run_point(own, config, training['steps'], [size, *options], show)
            except programs.PointFailed as error:
                bar.write(f'{name} failed, {len(chosen) - done - 1} to go', file=sys.stderr)
                failed.append(f'{name}: {error}')
                show(1.0)
    return failed


def compare(sweep: Sweep, configs: Sequence[Mapping[str, Any]], folder: pathlib.Path) -> None:
    """Writes and prints the comparison of the points that are finished."""
    results = []
    for point, config in zip(sweep.points, configs, strict=True):
        own = folder / point.folder
        if not programs.is_finished(own, points.config_file(point.title, config)):
            continue
        results.append(
            sweep_page.Result(
                index=point.index,
                title=point.title,
                varied=point.varied,
                row=programs.read_row(own),
                train_seconds=programs.read_state(own)['train_seconds'],
                training=read_metrics(own / 'run'),
                report=f'{point.folder}/eval/report/index.html'
                if (own / 'eval' / 'report' / 'index.html').is_file()
                else None,
            )
        )
    if not results:
        return
    written = sweep_page.write(sweep.name, results, len(sweep.points), folder)
    print(sweep_page.markdown(results))
    print(f'{len(results)} of {len(sweep.points)} points are finished')
    print('written:', *written, sep='\n  ')


if __name__ == '__main__':
    cli.run(main, define_flags)
