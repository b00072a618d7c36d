"""Draws what attention looks at before and after training: where latents read, what pixels ask for.

    python benchmarks/attention.py docs/images/attention.png runs/original runs/placed

Two rows for each run: its initial values and its newest checkpoint, on the first clip of the
evaluation split. The pictures are those of the report of `eval`.
"""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import haiku as hk
import matplotlib
import optax
from matplotlib import pyplot
from matplotlib.axes import Axes

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks.open_run import open_run
from perceiver_io.core.clip import Clip
from perceiver_io.distributed import sharding
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.report import attention
from perceiver_io.report.gather import first_windows
from perceiver_io.training.steps import init_state

COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('output', type=pathlib.Path)
    parser.add_argument('runs', nargs='+')
    args = parser.parse_args()
    matplotlib.use('agg')
    figure, axes = pyplot.subplots(
        2 * len(args.runs),
        COLUMNS,
        figsize=(4 * COLUMNS, 4.8 * len(args.runs)),
        layout='constrained',
        squeeze=False,
    )
    rows = iter(axes)
    for run in args.runs:
        loaded, experiment, records = open_run(run)
        model = Autoencoder(experiment.model)
        [window] = first_windows(records[:1], experiment.clip_spec)
        state = init_state(
            model,
            optax.sgd(0.0),
            experiment.training.seed,
            sharding.make_mesh(sharding.MeshConfig()),
            experiment.initialization if experiment.model.initialization == 'placed' else None,
        )
        name = f'{experiment.model.initialization} start'
        draw_row(next(rows), name, model, state.params, window)
        trained = f'{name}, after {loaded.step} steps'
        draw_row(next(rows), trained, model, loaded.params, window)
    figure.savefig(args.output, dpi=80)


def draw_row(
    axes: Sequence[Axes], title: str, model: Autoencoder, params: hk.Params, window: Clip
) -> None:
    """An early latent (of audio in the placed start), a late one (of video), and two pixels."""
    looks = attention.look('', model, params, window).looks
    latents, queries = looks[: attention.LATENTS], looks[attention.LATENTS :]
    chosen = [latents[1], latents[-2], *queries[1:3]]
    for axis, each in zip(axes, chosen):
        axis.imshow(attention.picture(each, window))
        axis.set(xticks=[], yticks=[])
        axis.set_title(f'{title}\n{each.title}', fontsize=10)
        axis.set_xlabel(each.text.replace('; ', '\n'), fontsize=8)


if __name__ == '__main__':
    main()
