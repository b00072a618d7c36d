"""How fast a model learns, by initialization and optimizer: PSNR over steps and over seconds.

    python benchmarks/learning.py                                          # rendered clips
    python benchmarks/learning.py --config=small --path=FOLDER --same --steps=120 --short=3 \
        --set=model.frames=4

For each arm, the rate is chosen from a grid by the video PSNR at the end of the schedule, with seed
0, on the clips of the evaluation split with their label hidden. The grid has three rates, and goes
on while its best rate is its smallest or its largest. The other seeds train at the best rate. Every
run has its own schedule, warm-up and decay to 0, over all its steps. The last arms are placed +
Muon again with fewer steps.

Every finished run is a line in OUTPUT.jsonl; the same command goes on where it was stopped. Seconds
are those of the steps, with reading, without compilation and evaluation.
"""

import argparse
import dataclasses
import importlib
import json
import math
import pathlib
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import plot
from perceiver_io.distributed import sharding
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.sweep import parse_values
from perceiver_io.sweeps.points import overridden
from perceiver_io.training import loop
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.optimizer import OptimizerConfig, make_optimizer
from perceiver_io.training.start import experiment_of
from perceiver_io.training.steps import init_state, make_train_step

RATES = {'lamb': (1e-3, 3e-3, 1e-2), 'adamw': (1e-3, 2e-3, 4e-3), 'muon': (0.005, 0.01, 0.02)}
RESULTS = ('video_psnr', 'audio_psnr', 'top_1')


@dataclasses.dataclass(frozen=True)
class Arm:
    """A way to train: the initial values, the optimizer, and a divisor of the number of steps."""

    initialization: str
    optimizer: str
    divisor: int = 1

    def __str__(self) -> str:
        names = {'lamb': 'LAMB', 'adamw': 'AdamW', 'muon': 'Muon'}
        steps = f', 1/{self.divisor} of the steps' if self.divisor > 1 else ''
        return f'{self.initialization} + {names[self.optimizer]}{steps}'


ARMS = (
    Arm('original', 'lamb'),
    Arm('original', 'adamw'),
    Arm('original', 'muon'),
    Arm('placed', 'adamw'),
    Arm('placed', 'muon'),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default='demo', help='name of an included config')
    parser.add_argument('--path', help='a folder of media files; without it, rendered clips')
    parser.add_argument('--csv', default='labels.csv', help='labels of the folder')
    parser.add_argument('--same', action='store_true', help='evaluates on the training clips')
    parser.add_argument('--set', action='append', default=[], help='KEY=VALUE of the config')
    parser.add_argument('--steps', type=int, default=300)
    parser.add_argument('--batch', type=int, default=8)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--short', type=int, nargs='*', default=[5], help='divisors of the steps')
    parser.add_argument('--evaluations', type=int, default=10, help='in each run')
    parser.add_argument('--eval_clips', type=int, default=0, help='0 for all')
    parser.add_argument('--only', type=int, default=0, help='stops after so many new runs')
    parser.add_argument('--output', default='runs/benchmarks/learning')
    args = parser.parse_args()

    base = experiment(args)
    done = read_runs(pathlib.Path(f'{args.output}.jsonl'))
    evaluate = Evaluations(base)
    new = 0
    for arm in (*ARMS, *(Arm('placed', 'muon', divisor) for divisor in args.short)):
        for rate, seed in wanted(arm, args.seeds, done):
            key = (str(arm), rate, seed)
            if key in done:
                continue
            run = train(base, arm, rate, seed, args.evaluations, evaluate)
            done[key] = run
            append(pathlib.Path(f'{args.output}.jsonl'), run)
            print(describe(run), flush=True)
            new += 1
            if new == args.only:
                return
    print(table(done))
    draw(f'{args.output}.png', done)
    print(f'written to {args.output}.jsonl and .png')


def experiment(args: argparse.Namespace) -> Experiment:
    """The config, at the size and on the clips that were asked for."""
    values = importlib.import_module(f'perceiver_io.configs.{args.config}').get_config().to_dict()
    values['training'] |= dict(steps=args.steps, batch_size=args.batch, eval_clips=args.eval_clips)
    if args.path:
        values['data'] |= dict(source='folder', path=args.path, csv=args.csv)
    if args.same:
        values['data'] |= dict(eval_split=values['data']['train_split'])
    return experiment_of(overridden(values, parse_values(args.set)))


class Evaluations:
    """Evaluates parameters on the held-out clips; one program for all runs."""

    def __init__(self, base: Experiment) -> None:
        self.mesh = loop.mesh_for(base)
        self.clips, held_out = loop.open_clips(base)
        self._evaluate = Evaluator(
            Autoencoder(base.model),
            held_out,
            base.clip_spec,
            self.mesh,
            data=base.data,
            loss=base.loss,
            batch_size=base.training.eval_batch_size,
        )

    def __call__(self, params: Any) -> dict[str, float]:
        summary = self._evaluate(params).summary
        return {name: float(summary[name]) for name in RESULTS if name in summary}


def wanted(arm: Arm, seeds: int, done: Mapping[tuple, Any]) -> Iterator[tuple[float, int]]:
    """The (rate, seed) of an arm's runs: a grid with its best rate inside, then more seeds."""
    rates = list(RATES[arm.optimizer])
    best = None
    while best is None or best in (rates[0], rates[-1]):
        if best == rates[0]:
            rates.insert(0, beyond(rates[1], rates[0]))
        elif best == rates[-1]:
            rates.append(beyond(rates[-2], rates[-1]))
        for rate in rates:
            yield rate, 0
        best = best_rate(str(arm), rates, done)
    for seed in range(1, seeds):
        yield best, seed


def best_rate(arm: str, rates: Sequence[float], done: Mapping[tuple, Mapping[str, Any]]) -> float:
    """Of the runs with seed 0, the rate with the highest video PSNR; NaN is the lowest."""

    def psnr(rate: float) -> float:
        value = done[arm, rate, 0]['points'][-1]['video_psnr']
        return -math.inf if math.isnan(value) else value

    return max(rates, key=psnr)


def beyond(inner: float, edge: float) -> float:
    """The rate next to the edge of a grid, in its proportion, with two digits."""
    return float(f'{edge * edge / inner:.2g}')


def train(
    base: Experiment, arm: Arm, rate: float, seed: int, evaluations: int, evaluate: Evaluations
) -> dict[str, Any]:
    """One run from start to end; evaluated `evaluations` times, evenly spread."""
    steps = base.training.steps // arm.divisor
    optimizer_config = OptimizerConfig(
        name=arm.optimizer,
        learning_rate=rate,
        adam_learning_rate=2e-3 if arm.optimizer == 'muon' else 0.0,
        warmup=0.05,
        flat=0.4,
        b1=0.95 if arm.optimizer == 'muon' else 0.9,
        b2=0.98,
        clip_norm=1.0,
    )
    own = dataclasses.replace(
        base, training=dataclasses.replace(base.training, steps=steps, seed=seed)
    )
    model, mesh = Autoencoder(base.model), evaluate.mesh
    optimizer = make_optimizer(optimizer_config, steps)
    step_function = make_train_step(
        model, optimizer, base.loss, base.sampling, seed=seed, mesh=mesh
    )
    placement = base.initialization if arm.initialization == 'placed' else None
    state = init_state(model, optimizer, seed, mesh, placement)
    due = {round(steps * (part + 1) / evaluations) for part in range(evaluations)}
    points, seconds, compiled = [], 0.0, False
    batches = loop.train_batches(own, evaluate.clips, mesh, 0)
    try:
        for step in range(1, steps + 1):
            begin = time.perf_counter()
            clip = sharding.put_clip(next(batches).clip, mesh)
            if not compiled:
                step_function = step_function.lower(state, clip).compile()
                begin, compiled = time.perf_counter(), True
            state, metrics = step_function(state, clip)
            jax.block_until_ready(metrics)
            seconds += time.perf_counter() - begin
            if step in due:
                points.append({'step': step, 'seconds': seconds, **evaluate(state.params)})
    finally:
        batches.close()
    return {'arm': str(arm), 'rate': rate, 'seed': seed, 'steps': steps, 'points': points}


def read_runs(path: pathlib.Path) -> dict[tuple[str, float, int], dict[str, Any]]:
    """The finished runs by (arm, rate, seed)."""
    lines = path.read_text().splitlines() if path.exists() else []
    runs = [json.loads(line) for line in lines]
    return {(run['arm'], run['rate'], run['seed']): run for run in runs}


def append(path: pathlib.Path, run: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        file.write(json.dumps(run) + '\n')


def describe(run: Mapping[str, Any]) -> str:
    last = run['points'][-1]
    results = ', '.join(f'{name} {last[name]:.2f}' for name in RESULTS if name in last)
    return (
        f'{run["arm"]}, rate {run["rate"]:g}, seed {run["seed"]}: {results} '
        f'after {run["steps"]} steps, {last["seconds"]:.0f} s'
    )


def at_best_rate(done: Mapping[tuple, Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The runs of every arm at the rate that was chosen."""
    chosen = {}
    for name in dict.fromkeys(arm for arm, _, _ in done):
        rates = [rate for arm, rate, seed in done if arm == name and seed == 0]
        best = best_rate(name, rates, done)
        chosen[name] = [run for (arm, rate, _), run in done.items() if (arm, rate) == (name, best)]
    return chosen


def steps_to(run: Mapping[str, Any], psnr: float) -> int | None:
    """The first evaluated step of at least this video PSNR."""
    return next((point['step'] for point in run['points'] if point['video_psnr'] >= psnr), None)


def table(done: Mapping[tuple, Mapping[str, Any]]) -> str:
    """In Markdown: a line for each arm, means and ranges over the seeds."""
    chosen = at_best_rate(done)
    goal = statistics.mean(
        run['points'][-1]['video_psnr'] for run in chosen[str(Arm('original', 'adamw'))]
    )
    lines = [
        '| start + optimizer | rate | steps | seconds | video PSNR | audio PSNR | top-1 | '
        f'steps to {goal:.2f} dB |',
        '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ]
    for arm, runs in chosen.items():
        last = [run['points'][-1] for run in runs]
        cells = [arm, f'{runs[0]["rate"]:g}', str(runs[0]['steps'])]
        cells.append(f'{statistics.mean(point["seconds"] for point in last):.0f}')
        cells += [mean_and_range([point.get(name) for point in last]) for name in RESULTS]
        cells.append(', '.join(str(steps_to(run, goal) or '-') for run in runs))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def mean_and_range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return '-'
    return f'{statistics.mean(known):.2f} ({min(known):.2f} to {max(known):.2f})'


def draw(path: str, done: Mapping[tuple, Mapping[str, Any]]) -> None:
    """Video PSNR over steps and over seconds, a line for each seed of each arm."""
    plot.learning_curves(
        path,
        {
            arm: [
                [(point['step'], point['seconds'], point['video_psnr']) for point in run['points']]
                for run in runs
            ]
            for arm, runs in at_best_rate(done).items()
        },
    )


if __name__ == '__main__':
    main()
