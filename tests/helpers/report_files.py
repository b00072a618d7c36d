"""A report of a tiny result, with names that try to be markup."""

import pathlib

import numpy as np
from helpers.evaluation_batches import batch_of, evaluate

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.evaluation import table5
from perceiver_io.models.config import AutoencoderConfig
from perceiver_io.report import page
from perceiver_io.report.content import AttentionMaps, Half, Look, Model, ShownClip

HOSTILE = '<script src="http://evil.example/x.js">alert(1)</script>" onerror="x'
SPEC = ClipSpec(frames=8, height=64, width=64, frame_rate=8, sample_rate=48_000)


def window(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (SPEC.frames, 8, 8, 3), np.uint8)
    audio = (3000 * np.sin(np.arange(SPEC.samples) / 20)).astype(np.int16)[:, None]
    return Clip(small.repeat(8, 1).repeat(8, 2), audio)


def make_report(folder: pathlib.Path) -> pathlib.Path:
    """Two models, two clips of each."""
    evaluation = evaluate(batch_of((0, 51, 3277, 2), (1, 51, 3277, 0)))
    row = table5.results(
        AutoencoderConfig(latents=392), evaluation, step=3, windows=1, checkpoint=HOSTILE
    )
    lines = [line | {'name': HOSTILE, 'label': HOSTILE} for line in evaluation.clip_table()]
    shown = [
        ShownClip(rank, lines[0], window(1), window(2)._replace(label=np.array([0.7, 0.2, 0.1])))
        for rank in ('best', 'worst')
    ]
    training = [{'step': step, 'train/loss': 1 / (step + 1)} for step in range(20)]
    half = Half([window(3)], 20.5, 20.25)
    classes = (HOSTILE, 'dog', 'owl')
    look = Look(HOSTILE, 'all of it', 3, (10, 20), np.eye(4)[None], np.ones(8))
    maps = AttentionMaps(HOSTILE, window(4), [look, look._replace(frame=None, point=None)])
    config = {'path': HOSTILE}
    model = Model(row, lines, SPEC, classes, shown, half, training, config, maps)
    page.write_report([model, model], folder)
    return folder
