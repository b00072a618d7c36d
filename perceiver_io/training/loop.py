"""The training loop."""

import contextlib
import dataclasses
import os
import pathlib

import jax
from jax.sharding import Mesh

from perceiver_io.checkpoints.store import CheckpointStore
from perceiver_io.core.errors import UsageError, as_usage
from perceiver_io.core.picks import spread
from perceiver_io.data import loader, sources
from perceiver_io.data.loader import Batches
from perceiver_io.data.records import Source
from perceiver_io.distributed import sharding
from perceiver_io.distributed.preemption import Stopped, StopSignals
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training import run_folder
from perceiver_io.training.accounting import Accounting, watchdog
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.metric_writer import NO_EXTRAS, Extras, MetricWriter
from perceiver_io.training.optimizer import make_optimizer, make_schedule
from perceiver_io.training.profile import Profile
from perceiver_io.training.progress import TrainingLog
from perceiver_io.training.saving import evaluates, is_due, save
from perceiver_io.training.start import Start, begin, first_state
from perceiver_io.training.steps import init_state, make_train_step
from perceiver_io.training.validation import Validation


def train(
    start: Start,
    workdir: str | os.PathLike,
    stop: StopSignals | None = None,
    extras: Extras = NO_EXTRAS,
) -> None:
    """Trains to the last step, and saves.

    Args:
        start: how the run starts.
        workdir: the folder of the run.
        stop: when to stop before the last step; None for never.
        extras: what to write besides the usual.

    Raises:
        Stopped: a signal came; the state is saved.
        UsageError: the experiment does not fit the devices or the classes of the clips.
        UserError: it does not fit the data or the folder, or a quantity of the training is not
            finite.
    """
    account, stop = Accounting(), stop or StopSignals()
    experiment, config = start.experiment, start.experiment.training
    mesh = mesh_for(experiment)
    run_folder.check_run(workdir, experiment, start.goes_on)
    clips, held_out = open_clips(experiment)
    taken = begin(start, workdir, clips.classes)

    model = Autoencoder(experiment.model)
    optimizer = make_optimizer(experiment.optimizer, config.steps, taken.new)
    train_step = make_train_step(
        model,
        optimizer,
        experiment.loss,
        experiment.sampling,
        seed=config.seed,
        mesh=mesh,
        accumulate=config.accumulate,
        group_norms=extras.gradient_norms,
    )
    with contextlib.ExitStack() as stack:
        checkpoints = stack.enter_context(
            contextlib.closing(CheckpointStore(workdir, keep=config.keep))
        )
        fresh = init_state(model, optimizer, config.seed, mesh, start.placement)
        state = first_state(start, taken, fresh, checkpoints)
        first = int(state.step)
        account.batch(first, ())
        writer = MetricWriter.open(workdir, experiment.to_json(), extras)
        stack.enter_context(contextlib.closing(writer))
        schedule = make_schedule(experiment.optimizer, config.steps)
        log = stack.enter_context(contextlib.closing(TrainingLog(writer, config, first, schedule)))
        validate = Validation(experiment, model, mesh, held_out, writer, log, stop, account)
        batches = train_batches(experiment, clips, mesh, first)
        stack.enter_context(contextlib.closing(batches))
        if start.goes_on:
            last = ', which is the last: raise --config.training.steps to train on'
            log.say(f'continuing at step {first}{last if first >= config.steps else ""}')
            if first and evaluates(first, config) and not checkpoints.evaluated(first):
                validate(first, state.params)  # a signal had come in between
        if first < config.steps:
            log.say(sharding.describe(mesh, state))
            log.say('compiling; on CPUs, the first step can take minutes')
        profile = stack.enter_context(Profile(pathlib.Path(workdir) / 'profile', extras.profile))
        stack.enter_context(watchdog(account, extras.watchdog, extras.watchdog_exit))
        if start.source is not None:  # once this is saved, the source is not needed any more
            save(checkpoints, state, validate(first, state.params))

        try:
            for step in range(first + 1, config.steps + 1):
                account.now('data')
                with log.waiting(), stop.interrupting():
                    batch = next(batches)
                log.failures(loader.failures(batch, clips))
                names = [clips.records[record].name for record in batch.record]
                account.batch(step, names)
                account.now(part_of(step, first, writer.written))
                profile.step(step - first)
                clip = sharding.put_clip(batch.clip, mesh)
                with jax.transfer_guard('disallow'):
                    state, metrics = train_step(state, clip)
                log.add(step, metrics, names)
                if is_due(step, config.checkpoint_every, config) or evaluates(step, config):
                    log.flush()  # raises if anything is not finite, so that it is not saved
                    account.now('evaluate')
                    summary = validate(step, state.params) if evaluates(step, config) else None
                    account.now('save')
                    save(checkpoints, state, summary)
                stop.check()
        except Stopped:
            log.flush()
            account.now('save')
            if int(state.step) != checkpoints.latest_step():
                save(checkpoints, state)
            show_time(account, checkpoints, writer, log)
            raise
        show_time(account, checkpoints, writer, log)


def show_time(
    account: Accounting, checkpoints: CheckpointStore, writer: MetricWriter, log: TrainingLog
) -> None:
    """Waits for what is being saved, and shows where the time of the run has gone."""
    account.now('save')
    checkpoints.wait()
    writer.scalars(account.step, account.seconds(), 'seconds')
    log.say(str(account))


def part_of(step: int, first: int, written: int) -> str:
    """What a step counts as, after the step that was restored and the last that was logged."""
    if step == first + 1:
        return 'compile'
    return 'replay' if step <= written else 'step'


def mesh_for(experiment: Experiment) -> Mesh:
    """All devices; UsageError if the batches do not fit them."""
    batch_size = experiment.training.batch_size
    with as_usage():
        mesh = sharding.make_mesh(experiment.mesh)
        experiment.check_mesh(mesh)
        rows = sharding.own_rows(mesh, batch_size)
        loader.check_rows(rows, batch_size, experiment.data.windows_per_read)
    return mesh


def open_clips(experiment: Experiment) -> tuple[Source, Source]:
    """The clips to train on, and those to evaluate on, with the same classes."""
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
        raise UsageError(
            f'the clips have {len(clips.classes)} classes and the model '
            f'{model.classes}: set --config.model.classes={len(clips.classes)}'
        )
    some = experiment.training.eval_clips
    if some:
        records = tuple(spread(held_out.records, some))
        held_out = dataclasses.replace(held_out, records=records)
    return clips, held_out


def train_batches(experiment: Experiment, clips: Source, mesh: Mesh, first_step: int) -> Batches:
    """This process's part of each batch after `first_step`."""
    config, data = experiment.training, experiment.data
    return loader.train_batches(
        clips,
        experiment.clip_spec,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=first_step,
        windows_per_read=data.windows_per_read,
        augmentation=sources.augmentation(data),
        workers=data.workers,
        threads=data.threads,
        rows=sharding.own_rows(mesh, config.batch_size),
    )
