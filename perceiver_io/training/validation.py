"""Evaluation during training: the pass of `eval.py` on some clips, and what TensorBoard shows."""

from collections.abc import Iterable, Iterator

import haiku as hk
import jax
import numpy as np
from jax.sharding import Mesh

from perceiver_io.core.clip import Clip, to_float
from perceiver_io.core.picks import spread
from perceiver_io.data.loader import Batch
from perceiver_io.data.records import Source
from perceiver_io.distributed.preemption import StopSignals
from perceiver_io.distributed.processes import is_first
from perceiver_io.evaluation.evaluate import Evaluator
from perceiver_io.evaluation.results import ShownWindow
from perceiver_io.media import side_by_side
from perceiver_io.models.autoencoder import Autoencoder
from perceiver_io.training import selectivity
from perceiver_io.training.accounting import Accounting
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.metric_writer import MetricWriter
from perceiver_io.training.progress import TrainingLog

SHOWN = 3  # clips, spread evenly over those that are evaluated


class Validation:
    """Evaluates parameters, writes the results and shows a few reconstructions."""

    def __init__(
        self,
        experiment: Experiment,
        model: Autoencoder,
        mesh: Mesh,
        clips: Source,
        writer: MetricWriter,
        log: TrainingLog,
        stop: StopSignals,
        account: Accounting,
    ) -> None:
        self._model = model
        self._clips = clips
        self._sample_rate = experiment.clip_spec.sample_rate
        self._writer = writer
        self._log = log
        self._stop = stop
        self._account = account
        self._compiled = False
        self._evaluate = Evaluator(
            model,
            clips,
            experiment.clip_spec,
            mesh,
            data=experiment.data,
            loss=experiment.loss,
            batch_size=experiment.training.eval_batch_size,
        )

    def __call__(self, step: int, params: hk.Params) -> dict[str, float]:
        """Evaluates the parameters on all clips; returns the summary, with its 'loss'.

        Raises:
            Stopped: a signal came; nothing was written.
        """
        show = spread(range(len(self._clips.records)), SHOWN)

        result = self._evaluate(params, show=show, progress=self._progress)
        if self._writer.wants_histograms:
            leaves = {
                f'{module}/{name}': np.asarray(leaf)
                for module, leaves in params.items()
                for name, leaf in leaves.items()
            }
            self._writer.histograms(step, leaves)
        self._log.failures(result.skipped)
        self._writer.scalars(step, dict(result.scalars()), 'eval')
        self._log.say(
            f'step {step}: '
            + ', '.join(f'{name} {value:.4g}' for name, value in result.summary.items())
        )
        if self._writer.wants_selectivity and result.shown:
            own = jax.device_get(params)  # this process alone computes
            measured = selectivity.measure(self._model.in_float32(), own, result.shown)
            self._writer.scalars(step, measured, 'selectivity')
        if is_first():
            for number, window in enumerate(result.shown):
                self._show(step, '' if number == 0 else f'_{number + 1}', window)
        return result.summary

    def _progress(self, batches: Iterable[Batch], total: int) -> Iterator[Batch]:
        """The batches; each is a sign of life for the watchdog."""
        for batch in self._stop.checking(batches):
            self._account.now('evaluate' if self._compiled else 'compile')
            self._compiled = True
            yield batch
        self._account.now('evaluate')

    def _show(self, step: int, suffix: str, window: ShownWindow) -> None:
        """A clip beside its reconstruction, and the audio of both."""
        original, reconstruction = _floats(window.original), _floats(window.reconstruction)
        if original.video is not None:
            frames = side_by_side.strip(original.video, reconstruction.video)
            self._writer.image(step, f'reconstruction{suffix}', frames)
        if original.audio is not None:
            rate = self._sample_rate
            self._writer.audio(step, f'original{suffix}', original.audio, rate)
            self._writer.audio(step, f'reconstruction{suffix}', reconstruction.audio, rate)


def _floats(clip: Clip) -> Clip:
    return to_float(clip._replace(label=None))
