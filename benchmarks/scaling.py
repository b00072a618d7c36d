"""How time and memory grow with pixels, frames and latents (exact attention).

    python benchmarks/scaling.py

Measures the reconstruction of one clip and a training step with batch 1: processor seconds and
XLA's temporary memory, with the slope of each (1: linear, 2: quadratic). Writes a plot.
"""

import argparse
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure, reconstruct, train_step  # noqa: E402
from benchmarks.plot import log_log_plots  # noqa: E402
from perceiver_io import Autoencoder, AutoencoderConfig

RANGES = {  # name: values, and from a value to arguments of the config
    'pixels': ((112, 160, 224, 320, 448), lambda size: dict(height=size, width=size)),
    'frames': ((8, 16, 32, 64), lambda frames: dict(frames=frames)),
    'latents': ((98, 196, 392, 784, 1568), lambda latents: dict(latents=latents)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--grows', nargs='+', choices=list(RANGES), default=list(RANGES))
    parser.add_argument('--output', default='runs/benchmarks/scaling.json')
    args = parser.parse_args()

    rows = []
    for name in args.grows:
        values, sizes = RANGES[name]
        for value in values:
            config = AutoencoderConfig(**sizes(value))
            count = config.height * config.width if name == 'pixels' else value
            rows.append({'grows': name, 'count': count} | measure_one(config, args.runs))

    measures = [name for name in rows[0] if name not in ('grows', 'count')]
    slopes = {
        grows: {
            name: slope([row for row in rows if row['grows'] == grows], name) for name in measures
        }
        for grows in args.grows
    }
    measure.report(args.output, rows, slopes=slopes)
    picture = pathlib.Path(args.output).with_suffix('.png')
    log_log_plots(
        picture,
        {
            name: {
                f'{grows}, slope {slopes[grows][name]:.2f}': [
                    (row['count'], row[name]) for row in rows if row['grows'] == grows
                ]
                for grows in args.grows
            }
            for name in measures
        },
    )
    print(f'drawn in {picture}')


def measure_one(config: AutoencoderConfig, runs: int) -> dict[str, float]:
    model = Autoencoder(config)
    params = reconstruct.random_params(config)
    clip = dict(
        video=np.zeros((1, *config.video_shape, 3), np.float32),
        audio=np.zeros((1, config.samples, 1), np.float32),
    )
    whole = reconstruct.whole_clip(model).lower(params, clip).compile()
    step, state, batch = train_step.prepare(config, 1)
    step = step.lower(state, batch).compile()
    times = measure.interleaved(
        {
            'reconstruct': lambda: whole(params, clip),
            'train step': train_step.Repeated(step, state, batch),
        },
        runs,
    )
    return {
        'reconstruct cpu s': times['reconstruct'].cpu_seconds,
        'reconstruct mb': measure.memory(whole)['temporary_mb'],
        'train step cpu s': times['train step'].cpu_seconds,
        'train step mb': measure.memory(step)['temporary_mb'],
    }


def slope(rows: list[dict], name: str) -> float:
    """Slope of the least-squares line through the logarithms."""
    x, y = np.log([[row['count'], row[name]] for row in rows]).T
    return float(np.polyfit(x, y, 1)[0])


if __name__ == '__main__':
    main()
