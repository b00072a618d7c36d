"""The progress of an evaluation in a file, so that one that was interrupted can go on."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import zlib
from collections.abc import Sequence
from typing import Any

import haiku as hk
import jax
import numpy as np

from perceiver_io.distributed.processes import from_first, is_first
from perceiver_io.evaluation.evaluate import Finished
from perceiver_io.evaluation.rows import ClipRow
from perceiver_io.metrics.record import Metric


def fingerprint(
    params: hk.Params, metrics: Sequence[Metric], names: Sequence[str], settings: Any
) -> str:
    """Tells evaluations apart whose clips must not be mixed.

    Args:
        params: of the model.
        metrics: that are measured.
        names: of the clips.
        settings: everything else that decides the results; anything that JSON can hold.
    """
    checksum = 0
    for leaf in jax.tree.leaves(params):
        checksum = zlib.crc32(np.asarray(leaf).tobytes(), checksum)
    parts = [checksum, [metric.column for metric in metrics], list(names), settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class SavedProgress:
    """A file with a line for each clip that is finished. Only the first process touches it."""

    def __init__(self, path: pathlib.Path, key: str) -> None:
        """
        Args:
            path: of the file; it need not exist.
            key: `fingerprint` of the evaluation; a file with another key is not read, and replaced.
        """
        self._path = path
        self._key = key

    def read(self) -> Finished:
        """The clips that are finished, the same on all processes."""
        text = ''
        if is_first():
            with contextlib.suppress(OSError, UnicodeDecodeError):
                text = self._path.read_text(encoding='utf-8')
            whole = text[: text.rfind('\n') + 1]  # the last line may have been cut off
            lines = whole.splitlines()
            text = '\n'.join(lines[1:]) if lines and lines[0] == self._key else ''
            self._path.write_text('\n'.join([self._key, text]).rstrip('\n') + '\n', 'utf-8')
        found = [json.loads(line) for line in from_first(text).splitlines()]
        return Finished(
            rows=[
                ClipRow(**line | {'best': tuple(line['best'])}) for line in found if 'best' in line
            ],
            failed=[line['failed'] for line in found if 'failed' in line],
        )

    def add(self, finished: Finished) -> None:
        """Appends clips."""
        if not is_first():
            return
        lines = [json.dumps(dataclasses.asdict(row)) for row in finished.rows]
        lines += [json.dumps({'failed': record}) for record in finished.failed]
        with open(self._path, 'a', encoding='utf-8') as file:
            file.writelines(f'{line}\n' for line in lines)

    def remove(self) -> None:
        if is_first():
            self._path.unlink(missing_ok=True)
