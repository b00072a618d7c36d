"""Batches of uniform clips, and a model that predicts black and silence, for results by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.core.clip import Clip, Output
from perceiver_io.data.loader import Batch
from perceiver_io.distributed.sharding import MeshConfig, make_mesh, put_replicated
from perceiver_io.evaluation.evaluate import Finished, Pass
from perceiver_io.evaluation.results import Evaluation
from perceiver_io.metrics import registry
from perceiver_io.metrics.baselines import baselines_for
from perceiver_io.metrics.losses import LossWeights

NAMES = ['one.mp4', 'two.mp4', 'three.mp4']
CLASSES = ('cat', 'dog', 'owl')
EMPTY = (-1, 0, 0, -1)  # a line of padding


class BlackAndSilent:
    """A model that predicts black, silence, and the class scores that are its parameters."""

    def reconstruct(self, params: Any, *, video: Any, audio: Any) -> Output:
        label = jnp.broadcast_to(params['logits'], (len(video), len(CLASSES)))
        return Output(jnp.zeros_like(video), jnp.zeros_like(audio), label)


def batch_of(*lines: tuple[int, int, int, int], failed: tuple[int, ...] = ()) -> Batch:
    """A batch of (record, grey level, audio level, label); `failed` are lines, unread."""
    records, greys, sounds, labels = (np.array(column, np.int32) for column in zip(*lines))
    video = np.broadcast_to(greys[:, None, None, None, None], (len(lines), 2, 2, 2, 3))
    audio = np.broadcast_to(sounds[:, None, None], (len(lines), 8, 1))
    broken = np.isin(np.arange(len(lines)), failed)
    values = dict(
        clip=Clip(video.astype(np.uint8), audio.astype(np.int16), labels),
        mask=(records >= 0) & ~broken,
        record=records,
        start=np.zeros(len(lines), np.float32),
        failed=np.where(broken, records, -1).astype(np.int32),
        reasons={int(record): 'it is damaged' for record in records[broken]},
    )
    return Batch(**{name: values[name] for name in Batch._fields})


def make_pass(model: Any = None, devices: int = 1) -> Pass:
    """The pass of a model over windows of 2 frames of 2 x 2 pixels and 8 samples."""
    modalities = ('video', 'audio', 'label')
    metrics = registry.metrics_for(
        modalities,
        height=2,
        width=2,
        samples=8,
        sample_rate=8,
        loss=LossWeights(video=1.0, audio=0.5, label=0.0),
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:devices])
    return Pass(model or BlackAndSilent(), metrics, baselines_for(modalities), mesh)


def evaluate(
    *batches: Batch, logits: Any = (0.0, 1.0, 2.0), windows: int = 1, model: Any = None
) -> Evaluation:
    """The results of a model on batches."""
    job = make_pass(model)
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    params = put_replicated({'logits': jnp.array(logits)}, mesh)
    return results_of(job, job.run(params, batches, windows=windows))


def results_of(job: Pass, *parts: Finished) -> Evaluation:
    """The results of the clips of all parts."""
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row.record)
    return Evaluation(
        rows=rows,
        skipped=[(NAMES[record], '') for part in parts for record in part.failed],
        names=NAMES,
        classes=CLASSES,
        metrics=job.metrics,
        baselines=job.baselines,
    )
