"""Writes the metrics, images and audio of a run: TensorBoard files and `metrics.jsonl`."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import TextIO

import numpy as np
from tensorboardX import SummaryWriter


class MetricWriter:
    """Writes on one process of a run, and does nothing on the others."""

    def __init__(self, workdir: str | os.PathLike, enabled: bool = True) -> None:
        self._summary: SummaryWriter | None = None
        self._lines: TextIO | None = None
        if enabled:
            workdir = pathlib.Path(workdir)
            self._summary = SummaryWriter(str(workdir / 'tensorboard'))
            self._lines = open(workdir / 'metrics.jsonl', 'a')

    def scalars(self, step: int, values: Mapping[str, float], prefix: str) -> None:
        """Scalars under `prefix`, 'train' or 'eval'."""
        if self._summary is None or self._lines is None:
            return
        for name, value in values.items():
            self._summary.add_scalar(f'{prefix}/{name}', float(value), step)
        named = {f'{prefix}/{name}': float(value) for name, value in values.items()}
        self._lines.write(json.dumps({'step': step} | named) + '\n')
        self._lines.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """An image, uint8 [h, w, 3]."""
        if self._summary is not None:
            self._summary.add_image(name, image, step, dataformats='HWC')

    def audio(self, step: int, name: str, audio: np.ndarray, sample_rate: int) -> None:
        """Audio, float [s, 1] in [-1, 1]."""
        if self._summary is not None:
            self._summary.add_audio(name, audio.clip(-1, 1), step, sample_rate)

    def close(self) -> None:
        if self._summary is not None:
            self._summary.close()
        if self._lines is not None:
            self._lines.close()
