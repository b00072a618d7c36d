"""The training curves of several runs in one picture, from their `metrics.jsonl`.

    python benchmarks/runs.py --output=runs.png 'placed start=runs/placed' 'original=runs/original'

Needs matplotlib (requirements-dev.txt).
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import plot
from perceiver_io.core.metrics_file import read_metrics

CURVES = {
    'train/video_psnr': 'video PSNR in dB, training batches',
    'train/audio_psnr': 'audio PSNR in dB, training batches',
    'train/loss/label': 'cross-entropy of the label, training batches',
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('runs', nargs='+', metavar='NAME=WORKDIR')
    parser.add_argument('--output', default='runs.png')
    args = parser.parse_args()

    entries = {}
    for run in args.runs:
        name, _, workdir = run.rpartition('=')
        entries[name or workdir] = read_metrics(workdir)
    plots = {
        label: {
            name: [(values['step'], values[key]) for values in metrics if key in values]
            for name, metrics in entries.items()
        }
        for key, label in CURVES.items()
    }
    plot.training_curves(args.output, plots)
    print(f'written to {args.output}')


if __name__ == '__main__':
    main()
