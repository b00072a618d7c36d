"""From a source to batches, with Grain: the order of the clips, and clips that cannot be read.

An example depends only on the seed and on its place in one endless global sequence, and batch k is
the k-th part of that sequence. Each process reads its rows of every batch, worker processes and
threads share this work, and a run that resumes starts at a later place. None of these changes the
batches. With several windows per read, the sequence is one of reads, and a batch has a window each
of the reads of several parts: see `train_batches`.
"""

import atexit
import collections
import contextlib
import functools
import gc
import signal
import weakref
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import grain
import numpy as np
from absl import flags

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import examples, sampling
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.examples import Example
from perceiver_io.data.records import Source
from perceiver_io.media import reader


class Batch(NamedTuple):
    """Clips and where they come from. b is the batch size of this process.

    Attributes:
        clip: video uint8 [b, t, h, w, 3], audio int16 [b, s, 1], label int32 [b].
        mask: bool [b]; False where the clip is zeros, as padding. Always True in training.
        record: int32 [b], the index in `Source.records`; -1 for padding.
        start: float32 [b], where the window starts, in seconds.
        failed: int32 [b], the record that belongs here but cannot be read; -1 if there is none.
        reasons: for each record in `failed`, why it cannot be read. Only this process knows it.
    """

    clip: Clip
    mask: np.ndarray
    record: np.ndarray
    start: np.ndarray
    failed: np.ndarray
    reasons: Mapping[int, str]


Batches: TypeAlias = Generator[Batch, None, None]


def train_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    windows_per_read: int = 1,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    threads: int = 4,
    rows: Sequence[int] | None = None,
) -> Batches:
    """Endless batches: all clips in every epoch, each time in another order with other windows.

    With n windows per read, an epoch reads every clip once and has n windows of it. A batch begins
    batch_size / n reads, and each of them gives its windows to this batch and the n - 1 that follow
    it, one to each: every batch has as many clips as examples, of which a fraction of 1 / n is
    other clips than those of the batch before. Example r * n + a of a batch comes from the r-th
    read that was begun a batches before. (Reads of n - 1 parts precede the first batch.)

    A clip that cannot be read is replaced by the next one in the source that can, and is named in
    `Batch.failed`. With `workers`, a script must guard its statements by
    `if __name__ == '__main__':`, because worker processes import it. Threads and workers end when
    the generator is closed or garbage collected.

    Args:
        source: the clips; they may be fewer than a batch.
        spec: the windows.
        batch_size: examples in a batch over all processes.
        seed: decides the orders, the windows and the augmentation; at least 0.
        first_step: how many batches to skip at the start. With n windows per read, the first batch
            after it reads as many clips as it has examples, and the following ones an n-th of that.
        windows_per_read: windows from one read of a clip, see above and `sampling.random_starts`;
            1 draws every window from a read of its own.
        augmentation: random changes of the video; None for none.
        workers: processes that read; 0 reads in this process.
        threads: reading threads in each worker, or in this process.
        rows: of each batch that are yielded, as `sharding.own_rows` says; None for all. With
            several windows per read, all rows of a read or none.

    Raises:
        UserError: an argument does not fit the others; or, while iterating, too many clips in a
            row cannot be read.
    """
    rows = range(batch_size) if rows is None else rows
    check_rows(rows, batch_size, windows_per_read)
    if first_step < 0 or seed < 0:
        raise UserError(f'{first_step=} and {seed=} must be at least 0')
    reads = (
        grain.MapDataset.range(len(source.records))
        .seed(seed)
        .shuffle()
        .repeat(None)
        .random_map(
            functools.partial(
                examples.random_examples,
                source=source,
                spec=spec,
                windows=windows_per_read,
                augmentation=augmentation,
            )
        )
    )
    part = batch_size // windows_per_read  # reads that a batch begins
    own = [row // windows_per_read for row in rows[::windows_per_read]]
    reads = _own_rows(reads[first_step * part :], part, own)
    return _batches(reads, len(own), workers, threads, windows_per_read)


def evaluation_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    windows: int = 1,
    first_batch: int = 0,
    workers: int = 0,
    threads: int = 4,
    rows: Sequence[int] | None = None,
) -> Batches:
    """Every window of every clip once, over all processes; for most arguments see `train_batches`.

    The windows of a clip are those of `sampling.uniform_starts`. All processes yield equally many
    batches; the last one is padded, with `mask` False. `mask` is also False where a clip cannot be
    read, which is then named in `Batch.failed`.

    Args:
        windows: of each clip.
        first_batch: how many batches to skip at the start.
    """
    rows = range(batch_size) if rows is None else rows
    check_rows(rows, batch_size)
    if windows < 1 or first_batch < 0:
        raise UserError(f'{windows=} must be at least 1, and {first_batch=} at least 0')
    batches = -(-len(source.records) * windows // batch_size)
    reads = grain.MapDataset.range(batches * batch_size).map(
        functools.partial(examples.fixed_example, source=source, spec=spec, windows=windows)
    )
    reads = _own_rows(reads[first_batch * batch_size :], batch_size, rows)
    return _batches(reads, len(rows), workers, threads)


def failures(batch: Batch, source: Source) -> list[tuple[str, str]]:
    """(name, reason) of the clips that belong in this part of a batch but cannot be read."""
    return [
        (source.records[record].name, batch.reasons[record])
        for record in batch.failed.tolist()
        if record >= 0
    ]


def why_unreadable(source: Source, record: int, spec: ClipSpec, windows: int = 1) -> str:
    """Why a record that another process named in `Batch.failed` cannot be read, by reading it."""
    failing = source.records[record]
    for start in sampling.uniform_starts(failing.seconds, spec, windows):
        try:
            examples.read(failing, [start], spec)
        except (reader.UnreadableMedia, OSError) as error:
            return str(error)
    return 'it could not be read then, and can be read now: evaluate again'


def check_rows(rows: Sequence[int], batch_size: int, windows_per_read: int = 1) -> None:
    """UserError where a batch cannot be divided among the windows of a read, or has no such rows.

    Args:
        rows: of a process, in increasing order.
        batch_size: rows of a batch over all processes.
        windows_per_read: which neighbouring rows of a batch share.
    """
    if batch_size < 1 or not rows or not 0 <= rows[0] <= rows[-1] < batch_size:
        raise UserError(f'{batch_size=} must be at least 1, and {rows=} below it')
    if windows_per_read < 1 or batch_size % windows_per_read:
        raise UserError(f'{batch_size=} must be a multiple of {windows_per_read=}')
    reads = {row // windows_per_read for row in rows}
    if len(rows) != len(reads) * windows_per_read:
        raise UserError(
            f'{batch_size=} divides the windows of a read among processes: make it a multiple of '
            f'{windows_per_read=} times the devices along the mesh axis "data"'
        )


class _OwnRows(grain.MapDataset):
    """A process's rows of every batch of a sequence of examples."""

    def __init__(self, examples: grain.MapDataset, batch_size: int, rows: Sequence[int]) -> None:
        super().__init__(examples)
        self._batch_size, self._rows = batch_size, rows

    def __len__(self) -> int:
        return len(self._parent) // self._batch_size * len(self._rows)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, place = divmod(index, len(self._rows))
        return self._parent[batch * self._batch_size + self._rows[place]]


def _own_rows(examples: grain.MapDataset, batch_size: int, rows: Sequence[int]) -> grain.MapDataset:
    return examples if len(rows) == batch_size else _OwnRows(examples, batch_size, rows)


def _batches(
    reads: grain.MapDataset, size: int, workers: int, threads: int, windows: int = 1
) -> Batches:
    """Batches from lists of `windows` examples each, of which a batch begins `size`."""
    if workers < 0 or threads < 1:
        raise UserError(f'{workers=} must be at least 0, and {threads=} at least 1')
    ahead = max(threads, -(-size // max(workers, 1)))  # of all workers, a batch
    dataset = reads.to_iter_dataset(grain.ReadOptions(threads, ahead))
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain passes some of its flags to the workers
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(workers, ahead), worker_init_fn=_leave_ctrl_c
        )
    # Batched last, so that all threads and workers share the work on each batch.
    batches = _iterate(dataset.batch(size, batch_fn=list), windows)
    _running.add(batches)
    return batches


def _leave_ctrl_c(worker: int, workers: int) -> None:
    """In a worker: a terminal sends Ctrl-C to it too, but the main process ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _iterate(dataset: grain.IterDataset, windows: int) -> Batches:
    with contextlib.closing(iter(dataset)) as iterator:
        yield from _spread(iterator, windows)
    # At the end of the data, Grain leaves the last example in a cycle, and with it shared memory.
    gc.collect()


def _spread(parts: Iterable[list[list[Example]]], windows: int) -> Batches:
    """Batches with one window each of the reads of the last `windows` parts.

    Args:
        parts: of equally many reads, each a list of `windows` examples, from which they are taken.
        windows: of a read.
    """
    recent: collections.deque[list[list[Example]]] = collections.deque(maxlen=windows)
    for part in parts:
        recent.appendleft(part)
        taken = [[read.pop() for read in reads] for reads in recent]  # by age, then by read
        if len(recent) == windows:
            yield _stack([example for of_read in zip(*taken) for example in of_read])


_running: weakref.WeakSet[Batches] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends threads and workers before the interpreter shuts down; Grain itself does it too late."""
    for batches in list(_running):
        batches.close()


def _stack(rows: Sequence[Example]) -> Batch:
    videos, audios, labels = zip(*(row.clip for row in rows))
    return Batch(
        Clip(
            None if videos[0] is None else np.stack(videos),
            None if audios[0] is None else np.stack(audios),
            np.array(labels, np.int32),
        ),
        mask=np.array([row.mask for row in rows]),
        record=np.array([row.record for row in rows], np.int32),
        start=np.array([row.start for row in rows], np.float32),
        failed=np.array([row.failed for row in rows], np.int32),
        reasons={each.failed: each.reason for each in rows if each.failed >= 0},
    )
