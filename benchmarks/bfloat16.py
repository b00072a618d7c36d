"""Error of bfloat16 in the reconstructions of a trained model.

    python benchmarks/bfloat16.py --checkpoint=runs/demo

Reconstructs clips of the run's evaluation split in float32 and in bfloat16, and reports the PSNR of
one against the other.
"""

import argparse
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from benchmarks import measure, reconstruct  # noqa: E402
from perceiver_io import Autoencoder, load
from perceiver_io.core.clip import to_float
from perceiver_io.data import loader, sources
from perceiver_io.training import run_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', default='runs/demo', help='folder of a run')
    parser.add_argument('--clips', type=int, default=60, help='decoded, one window of each')
    parser.add_argument('--output', default='runs/benchmarks/bfloat16.json')
    args = parser.parse_args()

    experiment = run_folder.read_experiment(args.checkpoint)
    model, params = load(args.checkpoint)
    spec = experiment.clip_spec
    clips = sources.open_source(
        experiment.data, experiment.data.eval_split, spec, needs_label=False
    )
    batch = next(loader.evaluation_batches(clips, spec, batch_size=args.clips))
    clip = to_float(batch.clip)
    low = Autoencoder(dataclasses.replace(model.config, dtype='bfloat16'))
    ours, reference = (
        each.reconstruct(params, video=clip.video, audio=clip.audio) for each in (low, model)
    )
    rows = [
        {
            'modality': modality,
            'PSNR to float32': reconstruct.psnr(
                *[getattr(output, modality)[batch.mask] for output in (ours, reference)]
            ),
            'deviation': float(getattr(reference, modality)[batch.mask].std()),
        }
        for modality in ('video', 'audio')
        if getattr(reference, modality) is not None
    ]
    measure.report(args.output, rows, clips=int(batch.mask.sum()))


if __name__ == '__main__':
    main()
