"""Trains the multimodal autoencoder.

    python train.py --config=configs/demo.py --workdir=DIR [--config.group.key=value ...]

The same command goes on where a run was stopped, to the same parameters, bit for bit.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from perceiver_io import cli
from perceiver_io.checkpoints.checkpoint import Checkpoint
from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.clip import to_float
from perceiver_io.core.errors import UsageError, UserError
from perceiver_io.data import loader, sources
from perceiver_io.data.records import Source
from perceiver_io.distributed import sharding
from perceiver_io.evaluation import evaluation
from perceiver_io.media import side_by_side
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training import finetuning, run_folder, steps
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.metric_writer import MetricWriter
from perceiver_io.training.optimizer import make_optimizer
from perceiver_io.training.progress import TrainingLog


def main(_) -> None:
    values = flags.FLAGS
    if values.config is None or values.workdir is None:
        raise UsageError('both --config=demo, or another config, and --workdir=DIR are needed')
    experiment, source = finetuning.resolve(values.config.to_dict(), values.workdir)
    train(experiment, values.workdir, source)


def define_flags() -> None:
    config_flags.DEFINE_config_file('config', None, 'Config, e.g. configs/demo.py.')
    flags.DEFINE_string('workdir', None, 'Folder of the run; made if it is not there.')


def train(experiment: Experiment, workdir: str, source: Checkpoint | None = None) -> None:
    """Trains to the last step, from the newest checkpoint in `workdir` if there is one.

    Args:
        experiment: what is trained.
        workdir: the folder of the run.
        source: the checkpoint in `experiment.init_from`, unless `workdir` has one already.
    """
    config = experiment.training
    mesh = sharding.make_mesh(experiment.mesh)
    frames = experiment.model.frames
    sharding.check_divisible(
        mesh, batch_size=config.batch_size, frames=frames, accumulate=config.accumulate
    )
    sharding.check_divisible(mesh, batch_size=config.eval_batch_size, frames=frames)
    run_folder.check_run(workdir, experiment)
    train_clips, eval_clips = open_clips(experiment)
    run_folder.start_run(workdir, experiment, train_clips.classes)

    start = finetuning.begin(experiment, workdir, source, train_clips.classes)

    model = Autoencoder(experiment.model)
    optimizer = make_optimizer(experiment.optimizer, config.steps, start.new)
    state = steps.init_state(model, optimizer, config.seed, mesh)
    saved = CheckpointStore(workdir, keep=config.keep)
    if saved.latest_step() is not None:
        params, rest = saved.restore(state.params, training_part(state))
        state = steps.TrainState(rest['step'], params, rest['optimizer'])
    elif source is not None:
        state = state._replace(params=start.take_over(state.params, source.params))
    first_step = int(state.step)

    train_step = steps.make_train_step(
        model,
        optimizer,
        experiment.loss,
        experiment.sampling,
        seed=config.seed,
        mesh=mesh,
        accumulate=config.accumulate,
    )
    writer = MetricWriter(workdir, enabled=jax.process_index() == 0)
    log = TrainingLog(
        writer,
        steps=config.steps,
        first_step=first_step,
        batch_size=config.batch_size,
        log_every=config.log_every,
    )
    evaluate = Evaluator(experiment, model, mesh, eval_clips, writer, log)
    if saved.latest_step() is None and source is not None:  # the source is not needed any more
        save(saved, state, evaluate(first_step, state.params))
    batches = loader.train_batches(
        train_clips,
        experiment.clip_spec,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=first_step,
        augmentation=sources.augmentation(experiment.data),
        workers=experiment.data.workers,
        threads=experiment.data.threads,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )

    for step in range(first_step + 1, config.steps + 1):
        with log.waiting():
            batch = next(batches)
        log.failures(loader.failures(batch, train_clips))
        state, metrics = train_step(state, sharding.put_clip(batch.clip, mesh))
        log.add(step, metrics)
        last = step == config.steps
        evaluating = last or (config.eval_every and step % config.eval_every == 0)
        if evaluating or step % config.checkpoint_every == 0:
            log.flush()  # nothing that is not finite is saved
            save(saved, state, evaluate(step, state.params) if evaluating else None)

    saved.wait()
    saved.close()
    writer.close()
    log.close()


def training_part(state: steps.TrainState) -> dict[str, Any]:
    """What a checkpoint holds besides the parameters."""
    return {'step': state.step, 'optimizer': state.optimizer}


def save(
    store: CheckpointStore, state: steps.TrainState, metrics: Mapping[str, float] | None
) -> None:
    """Starts saving a state, with the summary of its evaluation if there was one."""
    store.save(int(state.step), state.params, training_part(state), metrics)


def open_clips(experiment: Experiment) -> tuple[Source, Source]:
    """The clips to train on, and those to evaluate on, by the same classes."""
    config, model = experiment.data, experiment.model
    needs_label = 'label' in model.modalities
    clips = sources.open_source(
        config, config.train_split, experiment.clip_spec, needs_label=needs_label, training=True
    )
    held_out = sources.open_source(
        config,
        config.eval_split,
        experiment.clip_spec,
        needs_label=needs_label,
        classes=clips.classes,
    )
    if needs_label and len(clips.classes) > model.classes:
        raise UserError(
            f'the clips have {len(clips.classes)} classes and the model '
            f'{model.classes}: set --config.model.classes={len(clips.classes)}'
        )
    some = experiment.training.eval_clips
    if 0 < some < len(held_out.records):
        spread = np.linspace(0, len(held_out.records) - 1, some).round().astype(int)
        held_out = dataclasses.replace(
            held_out, records=tuple(held_out.records[index] for index in spread)
        )
    return clips, held_out


class Evaluator:
    """Evaluates as `eval.py` does, and shows a clip in TensorBoard."""

    def __init__(
        self,
        experiment: Experiment,
        model: Autoencoder,
        mesh: jax.sharding.Mesh,
        clips: Source,
        writer: MetricWriter,
        log: TrainingLog,
    ):
        self._experiment = experiment
        self._model = model
        self._mesh = mesh
        self._clips = clips
        self._writer = writer
        self._log = log
        self._step = evaluation.make_eval_step(model, mesh)

    def __call__(self, step: int, params: hk.Params) -> dict[str, float]:
        """Measures the parameters on all clips; returns the summary, with its 'loss'."""
        experiment = self._experiment
        batches = self._batches(experiment.training.eval_batch_size)
        result = evaluation.evaluate(
            self._step,
            params,
            batches,
            names=[record.name for record in self._clips.records],
            classes=self._clips.classes,
            weights=experiment.loss,
            mesh=self._mesh,
        )
        self._log.failures(result.skipped)
        self._writer.scalars(step, result.summary | result.predictors, 'eval')
        self._log.say(
            f'step {step}: '
            + ', '.join(f'{name} {value:.4g}' for name, value in result.summary.items())
        )
        if jax.process_index() == 0:
            self._show(step, params)
        return result.summary

    def _show(self, step, params):
        """One clip and its reconstruction, as a picture and as sound."""
        clip = to_float(next(self._batches(1)).clip)
        params = sharding.one_copy(params)
        output = self._model.reconstruct(params, video=clip.video, audio=clip.audio)
        if output.video is not None:
            self._writer.image(
                step,
                'reconstruction',
                side_by_side.strip(clip.video[0], np.asarray(output.video[0])),
            )
        if output.audio is not None:
            rate = self._experiment.clip_spec.sample_rate
            self._writer.audio(step, 'original', clip.audio[0], rate)
            self._writer.audio(step, 'reconstruction', np.asarray(output.audio[0]), rate)

    def _batches(self, batch_size):
        data = self._experiment.data
        alone = batch_size == 1
        return loader.evaluation_batches(
            self._clips,
            self._experiment.clip_spec,
            batch_size=batch_size,
            windows=data.eval_windows,
            threads=data.threads,
            process_index=0 if alone else jax.process_index(),
            process_count=1 if alone else jax.process_count(),
        )


if __name__ == '__main__':
    cli.run(main, define_flags)
