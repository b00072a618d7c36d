"""From a source to batches, with Grain: what is read when, and what if it cannot be read.

An example is decided by the seed and by its place in one endless global sequence. Processes,
worker processes and threads only divide that sequence among them, and resuming is starting at
another place in it. So none of these changes what is trained on.
"""

import atexit
import contextlib
import functools
import weakref
from collections.abc import Generator, Sequence
from typing import NamedTuple

import grain
import numpy as np
from absl import flags

from perceiver_io.core.clip import Clip, ClipSpec
from perceiver_io.core.errors import UserError
from perceiver_io.data import sampling
from perceiver_io.data.augmentation import Augmentation
from perceiver_io.data.records import Record, Source
from perceiver_io.media import reader

_REASON_BYTES = 160
_ATTEMPTS = 16  # clips tried for an example before giving up


class Batch(NamedTuple):
    """Clips and where they come from. b is the batch size of this process.

    Attributes:
        clip: video uint8 [b, t, h, w, 3], audio int16 [b, s, 1], label int32 [b].
        mask: bool [b]; False where there is no clip but zeros. Always True in training.
        record: int32 [b], the index in `Source.records`; -1 for padding.
        start: float32 [b], where the window starts, in seconds.
        failed: int32 [b], index of the record that belongs here but cannot be read; -1 if none.
        reason: uint8 [b, 160], why it cannot be read: UTF-8, filled up with zeros.
    """

    clip: Clip
    mask: np.ndarray
    record: np.ndarray
    start: np.ndarray
    failed: np.ndarray
    reason: np.ndarray


Batches = Generator[Batch, None, None]


class _Example(NamedTuple):
    """One line of a `Batch`."""

    clip: Clip
    mask: bool
    record: int
    start: float
    failed: int = -1
    reason: str = ''


def train_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    seed: int,
    first_step: int = 0,
    augmentation: Augmentation | None = None,
    workers: int = 0,
    threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Endless batches: every epoch all clips in another order, each with another random window.

    A clip that cannot be read is replaced by the next one in the source that can, and named in
    `Batch.failed`. With `workers`, a script must keep what it does on import under
    `if __name__ == '__main__':`, because worker processes import it. Threads and workers end when
    the generator is closed, or no longer referred to.

    Args:
        source: the clips; fewer than a batch will do.
        spec: the windows.
        batch_size: examples in a batch over all processes.
        seed: decides the orders, the windows and the augmentation; at least 0.
        first_step: how many batches to leave out at the start.
        augmentation: what changes the pictures at random; None for nothing.
        workers: processes that read; 0 reads in this process.
        threads: that read, in each worker.
        process_index: which part of each batch to yield: the examples i of the global batch with
            i % process_count == process_index.
        process_count: into how many parts batches are divided.

    Raises:
        UserError: an argument does not fit the others; or, while iterating, too many clips in a
            row cannot be read.
    """
    local_size = _local_size(batch_size, process_index, process_count)
    if first_step < 0 or seed < 0:
        raise UserError(f'{first_step=} and {seed=} must be at least 0')
    examples = (
        grain.MapDataset.range(len(source.records))
        .seed(seed)
        .shuffle()
        .repeat(None)
        .random_map(
            functools.partial(_random_example, source=source, spec=spec, augmentation=augmentation)
        )
    )
    return _batches(
        examples[first_step * batch_size + process_index :: process_count],
        local_size,
        workers,
        threads,
    )


def evaluation_batches(
    source: Source,
    spec: ClipSpec,
    *,
    batch_size: int,
    windows: int = 1,
    first_batch: int = 0,
    workers: int = 0,
    threads: int = 4,
    process_index: int = 0,
    process_count: int = 1,
) -> Batches:
    """Every window of every clip once, over all processes; see `train_batches` for the arguments.

    The windows of a clip are `sampling.uniform_starts`. All processes yield equally many batches;
    to that end the last ones are padded, with `mask` False. It is False too where a clip cannot be
    read, which `Batch.failed` names.
    """
    local_size = _local_size(batch_size, process_index, process_count)
    if windows < 1:
        raise UserError(f'{windows=} must be at least 1')
    batches = -(-len(source.records) * windows // batch_size)
    examples = grain.MapDataset.range(batches * batch_size).map(
        functools.partial(_fixed_example, source=source, spec=spec, windows=windows)
    )
    examples = examples[first_batch * batch_size :]
    return _batches(examples[process_index::process_count], local_size, workers, threads)


def failures(batch: Batch, source: Source) -> list[tuple[str, str]]:
    """(name, reason) of the clips that belong in this batch but cannot be read."""
    return [
        (source.records[record].name, reason.tobytes().rstrip(b'\0').decode(errors='ignore'))
        for record, reason in zip(batch.failed, batch.reason)
        if record >= 0
    ]


def why_unreadable(source: Source, record: int, spec: ClipSpec, windows: int = 1) -> str:
    """Why a record that was named in `Batch.failed` cannot be read: it is read once more."""
    failing = source.records[record]
    for start in sampling.uniform_starts(failing.seconds, spec, windows):
        try:
            _read(failing, start, spec)
        except (reader.UnreadableMedia, OSError) as error:
            return str(error)
    return 'it could not be read, and now it can: evaluate again'


def _local_size(batch_size: int, process_index: int, process_count: int) -> int:
    if not 0 <= process_index < process_count:
        raise UserError(f'{process_index=} must be at least 0 and below {process_count=}')
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f'{batch_size=} must be a positive multiple of {process_count=}')
    return batch_size // process_count


def _batches(examples: grain.MapDataset, size: int, workers: int, threads: int) -> Batches:
    if workers < 0 or threads < 1:
        raise UserError(f'{workers=} must be at least 0, and {threads=} at least 1')
    ahead = max(threads, -(-size // max(workers, 1)))  # all workers together read a batch ahead
    dataset = examples.to_iter_dataset(grain.ReadOptions(threads, ahead))
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain hands some of its flags to the workers
            flags.FLAGS.mark_as_parsed()
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(workers, ahead))
    # Batched here and not before, so that all threads and workers share the work on each batch.
    batches = _iterate(dataset.batch(size, batch_fn=_stack))
    _running.add(batches)
    return batches


def _iterate(dataset: grain.IterDataset) -> Batches:
    with contextlib.closing(iter(dataset)) as iterator:
        yield from iterator


_running = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends threads and workers while the interpreter is whole; by itself Grain does it too late."""
    for batches in list(_running):
        batches.close()


def _random_example(
    index: int,
    rng: np.random.Generator,
    *,
    source: Source,
    spec: ClipSpec,
    augmentation: Augmentation | None,
) -> _Example:
    errors = []
    for attempt in range(min(_ATTEMPTS, len(source.records))):
        candidate = (index + attempt) % len(source.records)
        record = source.records[candidate]
        start = sampling.random_start(rng, record.seconds, spec)
        try:
            clip = _read(record, start, spec)
        except (reader.UnreadableMedia, OSError) as error:
            errors.append(str(error))
            continue
        if augmentation is not None and clip.video is not None:
            clip = clip._replace(video=augmentation(clip.video, rng))
        example = _Example(clip, True, candidate, start)
        return example._replace(failed=index, reason=errors[0]) if errors else example
    raise UserError(
        f'cannot read {source.records[index].name} ({errors[0]}), nor the '
        f'{len(errors) - 1} clips after it: check the folder'
    )


def _fixed_example(index: int, *, source: Source, spec: ClipSpec, windows: int) -> _Example:
    index, window = divmod(index, windows)
    if index >= len(source.records):
        return _Example(_zeros(spec), False, -1, 0.0)
    record = source.records[index]
    start = sampling.uniform_starts(record.seconds, spec, windows)[window]
    try:
        return _Example(_read(record, start, spec), True, index, start)
    except (reader.UnreadableMedia, OSError) as error:
        return _Example(_zeros(spec), False, index, start, index, str(error))


def _read(record: Record, start: float, spec: ClipSpec) -> Clip:
    return reader.read_window(record.load(), start, spec)._replace(label=record.label)


def _zeros(spec: ClipSpec) -> Clip:
    return Clip(
        np.zeros((spec.frames, spec.height, spec.width, 3), np.uint8) if spec.video else None,
        np.zeros((spec.samples, 1), np.int16) if spec.audio else None,
        -1,
    )


def _stack(examples: Sequence[_Example]) -> Batch:
    clips, masks, records, starts, failed, reasons = zip(*examples)
    videos, audios, labels = zip(*clips)
    reason = np.zeros((len(examples), _REASON_BYTES), np.uint8)
    for line, text in zip(reason, reasons):
        encoded = text.encode()[:_REASON_BYTES]
        line[: len(encoded)] = np.frombuffer(encoded, np.uint8)
    return Batch(
        Clip(
            None if videos[0] is None else np.stack(videos),
            None if audios[0] is None else np.stack(audios),
            np.array(labels, np.int32),
        ),
        mask=np.array(masks),
        record=np.array(records, np.int32),
        start=np.array(starts, np.float32),
        failed=np.array(failed, np.int32),
        reason=reason,
    )
