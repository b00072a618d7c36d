"""How well a hidden modality is decoded from the others, beside predictors that do not see it.

    perceiver-io train --config=demo --workdir=runs/hidden --config.training.steps=1500 \
        --config.sampling.audio_masked=0.5 --config.data.render_phase=fixed
    python benchmarks/hidden_modality.py --checkpoint=runs/hidden

Every predictor is evaluated as the model is, on the clips of the evaluation split: silence, the
mean frame of some training clips, and another clip of the split. The last has the right kind of
audio and video, but knows nothing of the clip at hand. The gain of the model over silence or the
mean frame is the mean over the clips of the difference of their PSNRs. A modality that the run
never hid is left out.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from perceiver_io.checkpoints import loading
from perceiver_io.core.clip import Output
from perceiver_io.data import sources
from perceiver_io.distributed import sharding
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.evaluation.results import Evaluation
from perceiver_io.evaluation.rows import column
from perceiver_io.metrics import bootstrap
from perceiver_io.models.autoencoder import Autoencoder, AutoencoderConfig
from perceiver_io.report.gather import first_windows
from perceiver_io.training import run_folder

SHOWN = {'audio': ('log_mel', 'stft', 'audio_psnr'), 'video': ('video_psnr', 'ssim')}
TRAINING_CLIPS = 100  # of which the mean frame is taken


class Predictor:
    """Something that is evaluated in the place of a model."""

    def __init__(
        self, config: AutoencoderConfig, predict: Callable[[jax.Array], jax.Array], modality: str
    ) -> None:
        self.config = dataclasses.replace(config, modalities=(modality,))
        self._predict, self._modality = predict, modality

    def reconstruct(self, params: hk.Params, *, video: Any, audio: Any) -> Output:
        given = {'video': video, 'audio': audio}[self._modality]
        return Output(**{self._modality: self._predict(given)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--checkpoint', required=True, help='a run with hidden modalities')
    args = parser.parse_args()
    loaded = loading.load_checkpoint(args.checkpoint)
    experiment = run_folder.experiment_of(args.checkpoint, loaded)
    data, spec = experiment.data, experiment.clip_spec

    def open_split(split: str) -> sources.Source:
        return sources.open_source(data, split, spec, needs_label=False, classes=loaded.classes)

    clips = open_split(data.eval_split)
    count = len(clips.records)
    some = first_windows(open_split(data.train_split).records[:TRAINING_CLIPS], spec)
    mean_frame = np.mean([clip.video for clip in some], axis=(0, 1)) / 255

    def evaluate(model: Any) -> Evaluation:
        evaluator = Evaluator(
            model,
            clips,
            spec,
            sharding.make_mesh(sharding.MeshConfig()),
            data=data,
            loss=experiment.loss,
            batch_size=count,  # so that another clip is in the same batch
        )
        return evaluator(loaded.params)

    def another(x: jax.Array) -> jax.Array:
        return jnp.roll(x, count // 2 + 1, axis=0)

    predictors = {
        'audio': {'silence': jnp.zeros_like, 'another clip': another},
        'video': {
            'mean frame of the training clips': lambda x: jnp.broadcast_to(mean_frame, x.shape),
            'another clip': another,
        },
    }
    for modality, names in SHOWN.items():
        if not getattr(experiment.sampling, f'{modality}_masked'):
            continue
        rows = {
            'hidden, decoded from the rest': Autoencoder(experiment.model, hidden=(modality,)),
            'not hidden': Autoencoder(experiment.model),
        }
        rows |= {
            name: Predictor(experiment.model, predict, modality)
            for name, predict in predictors[modality].items()
        }
        print(f'\n| {modality} | {" | ".join(names)} |\n| --- |{" --- |" * len(names)}')
        results = {title: evaluate(model) for title, model in rows.items()}
        for title, result in results.items():
            intervals = result.intervals()
            cells = [
                '{:.3g} ({:.3g} to {:.3g})'.format(result.summary[name], *intervals[name])
                for name in names
            ]
            print(f'| {title} | {" | ".join(cells)} |')
        hidden, *_ = results.values()
        trivial = results[next(iter(predictors[modality]))]
        gain = '{:.2f} dB ({:.2f} to {:.2f})'.format(*gain_of(hidden, trivial, modality))
        print(f'\nGain of the hidden {modality}: {gain}')
        if 'top_1' in hidden.summary:
            print(f'Top-1 with the {modality} hidden: {hidden.summary["top_1"]:.0%}')


def gain_of(hidden: Evaluation, trivial: Evaluation, modality: str) -> tuple[float, float, float]:
    """Mean over the clips of the difference of their PSNRs in dB, with its 95% interval."""
    values, counts = column(hidden.rows, f'{modality}_psnr')
    others, also = column(trivial.rows, f'{modality}_psnr')
    difference = (values - others)[counts & also]
    drawn = bootstrap.resampled_weights(len(difference))
    means = np.array([np.average(difference, weights=weights) for weights in drawn])
    return float(difference.mean()), *bootstrap.interval(means)


if __name__ == '__main__':
    main()
