"""Plots of what benchmarks measured. Needs matplotlib (requirements-dev.txt)."""

import os
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib import pyplot

matplotlib.use('agg')


def log_log_plots(
    path: str | os.PathLike, plots: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> None:
    """Writes an image with one log-log plot per title.

    Each line is drawn over its x divided by its smallest x, so that lines of different quantities
    start at the same place and can be compared by slope.

    Args:
        path: of the image.
        plots: {title: {name of a line: points (x, y), all positive}}.
    """
    rows = -(-len(plots) // 2)
    figure, axes = pyplot.subplots(
        rows, 2, figsize=(10, 4 * rows), layout='constrained', squeeze=False
    )
    for (title, lines), axis in zip(plots.items(), axes.flat):
        for name, points in lines.items():
            x, y = zip(*points)
            axis.loglog([each / min(x) for each in x], y, 'o-', base=2, label=name)
        axis.set(title=title, xlabel='size over the smallest')
        axis.xaxis.set_major_formatter('{x:g}')
        axis.yaxis.set_major_formatter('{x:g}')
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


def learning_curves(
    path: str | os.PathLike,
    arms: Mapping[str, Sequence[Sequence[tuple[float, float, float]]]],
) -> None:
    """Writes an image with video PSNR over steps, and over seconds.

    Args:
        path: of the image.
        arms: {name: runs}, each run a list of (step, seconds, video PSNR in dB). The runs of an arm
            have one colour.
    """
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 5), layout='constrained', sharey=True)
    for axis, column, label in zip(axes, (0, 1), ('steps', 'seconds of training')):
        for number, (name, runs) in enumerate(arms.items()):
            for run in runs:
                x = [point[column] for point in run]
                y = [point[2] for point in run]
                first = name if run is runs[0] else None
                axis.plot(x, y, '.-', color=f'C{number}', linewidth=1, label=first)
        axis.set(xlabel=label)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel='video PSNR in dB, evaluation clips')
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=3)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def training_curves(
    path: str | os.PathLike, plots: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> None:
    """Writes an image with one plot over steps for each quantity, side by side.

    Args:
        path: of the image.
        plots: {label of the y axis: {name of a run: points (step, value)}}.
    """
    figure, axes = pyplot.subplots(1, len(plots), figsize=(12, 4.4), layout='constrained')
    for axis, (label, runs) in zip(axes, plots.items()):
        for name, points in runs.items():
            axis.plot(*zip(*points), '.-', linewidth=1, label=name)
        axis.set(xlabel='steps', ylabel=label)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc='outside lower center', ncols=2)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
