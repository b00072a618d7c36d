"""The work of preparing a dataset, in pieces that survive an interruption.

A shard is 768 listed clips, and a chunk 16 of them: what one process does at a time. What is done
lies in a work folder, under a name that is a digest of the clips and the settings: a later run
finds exactly what it can use, and does again what depends on anything else. (A file that changes
under the same name between two runs goes unnoticed.) A chunk's two files and a shard's are written
whole, the one that tells what is in the other last.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np
import tqdm

from perceiver_io.core import files
from perceiver_io.core.errors import UserError
from perceiver_io.data.prepare import transcode
from perceiver_io.data.prepare.trees import Listed

# Kinetics makes 706 shards of `train`, each half a gigabyte: fewer than the 1,024 files that a
# process may usually have open, since each shard that is read stays open.
SHARD_CLIPS = 768
CHUNK_CLIPS = 16
_FORM = 2  # of what is stored; raise it on any change, so that no work of before is used


class Example(NamedTuple):
    """What is known of a stored clip besides its bytes."""

    name: str
    label: int
    seconds: float
    has_audio: bool


class Reject(NamedTuple):
    """A line of `rejects.csv`."""

    split: str
    file: str
    label: str
    reason: str
    detail: str


class Shard(NamedTuple):
    """A shard that is done: its file (None where no clip could be used), and what is in it."""

    path: pathlib.Path | None
    examples: list[Example]
    rejects: list[Reject]


WriteShard = Callable[[pathlib.Path, Iterator[tuple[Example, bytes]]], None]


@dataclasses.dataclass(frozen=True)
class Work:
    """A work folder; it pickles for worker processes.

    Attributes:
        folder: on a file system that all workers share.
        settings: what is stored and what is rejected.
        write_shard: writes a file of (example, media).
    """

    folder: pathlib.Path
    settings: transcode.Settings
    write_shard: WriteShard

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps it to this process; UserError where another one has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / 'lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    f'another process prepares this dataset in {self.folder}: wait '
                    'for it, or stop it'
                ) from error
            for pattern in ('*.reading', '*.part', '.*.part', '*.mp4'):
                for path in self.folder.glob(pattern):
                    path.unlink()  # half written, by an earlier run that was killed
            yield

    def run(self, shards: Sequence[Sequence[Listed]], workers: int) -> list[Shard]:
        """Does all shards, with a progress bar; `workers` processes, or this one for 0."""
        todo = [
            chunk
            for shard in shards
            if not self._manifest(shard).exists()
            for chunk in _chunks(shard)
        ]
        total = sum(map(len, shards))
        bar = tqdm.tqdm(
            total=total,
            initial=total - sum(map(len, todo)),
            unit='clip',
            desc='preparing clips',
            smoothing=0.02,
        )
        with bar, _pool(workers) as submit:
            done = {}
            for chunk in todo:
                done[chunk] = submit(_do_chunk, self.folder, self.settings, chunk)
                done[chunk].add_done_callback(functools.partial(_advance, bar, len(chunk)))
            result = []
            for shard in shards:
                for chunk in _chunks(shard):
                    if chunk in done:
                        self._wait(done.pop(chunk))
                result.append(self.do_shard(shard))
            return result

    def _wait(self, future: futures.Future) -> None:
        try:
            future.result()
        except process.BrokenProcessPool as error:
            names = ' or '.join(path.read_text() for path in self.folder.glob('*.reading'))
            raise UserError(
                f'a worker process died, killed or while it read {names}: run again, '
                'and if it dies again, take this file away'
            ) from error

    def do_shard(self, clips: Sequence[Listed]) -> Shard:
        """The shard, from its chunks, which are done first where they are not."""
        manifest = self._manifest(clips)
        path = manifest.with_suffix('.shard')
        if not manifest.exists():
            chunks = _chunks(clips)
            found = [_do_chunk(self.folder, self.settings, chunk) for chunk in chunks]
            examples = [Example(*each) for chunk in found for each in chunk['examples']]
            rejects = [each for chunk in found for each in chunk['rejects']]
            if examples:
                partial = path.with_suffix(f'.{uuid.uuid4().hex}.part')
                self.write_shard(partial, zip(examples, self._media(chunks, found)))
                os.replace(partial, path)
            _write_json(manifest, {'examples': examples, 'rejects': rejects})
            for chunk in chunks:
                for suffix in ('.json', '.media'):
                    self._manifest(chunk, 'chunk').with_suffix(suffix).unlink(missing_ok=True)
        known = json.loads(manifest.read_text())
        examples = [Example(*each) for each in known['examples']]
        return Shard(
            path if examples else None, examples, [Reject(*each) for each in known['rejects']]
        )

    def _media(self, chunks, found) -> Iterator[bytes]:
        for chunk, known in zip(chunks, found):
            with open(self._manifest(chunk, 'chunk').with_suffix('.media'), 'rb') as file:
                for size in known['sizes']:
                    yield file.read(size)

    def _manifest(self, clips: Sequence[Listed], part: str = 'shard') -> pathlib.Path:
        return _manifest(self.folder, self.settings, clips, part)


def cut(clips: Sequence[Listed], size: int) -> list[tuple[Listed, ...]]:
    """The clips in parts of `size`, none of which has clips of two splits."""
    splits = {}
    for clip in clips:
        splits.setdefault(clip.split, []).append(clip)
    return [
        tuple(part[first : first + size])
        for part in splits.values()
        for first in range(0, len(part), size)
    ]


def write_index(path: pathlib.Path, examples: Sequence[Example]) -> None:
    """Writes names, labels, lengths and whether there is sound, in the order of the records."""
    names, labels, seconds, has_audio = zip(*examples)
    np.savez(
        path,
        name=np.array(names, np.str_),
        label=np.array(labels, np.int32),
        seconds=np.array(seconds, np.float64),
        has_audio=np.array(has_audio, np.bool_),
    )


def _do_chunk(
    folder: pathlib.Path, settings: transcode.Settings, clips: Sequence[Listed]
) -> dict[str, Any]:
    """Examples, sizes of their media, and rejects; the media go into the folder."""
    manifest = _manifest(folder, settings, clips, 'chunk')
    if not manifest.exists():
        known = {'examples': [], 'sizes': [], 'rejects': []}
        media = []
        reading = folder / f'{os.getpid()}.reading'  # tells which file a worker died of
        for clip in clips:
            reading.write_text(clip.path, errors='replace')
            try:
                if clip.reason:
                    raise transcode.Rejected(clip.reason, clip.detail)
                stored = transcode.store(clip.path, settings, folder)
            except transcode.Rejected as error:
                known['rejects'].append(
                    Reject(clip.split, clip.name, clip.class_name, error.reason, error.detail)
                )
                continue
            media.append(stored.media)
            known['sizes'].append(len(stored.media))
            known['examples'].append(
                Example(clip.name, clip.label, stored.seconds, stored.has_audio)
            )
        reading.unlink(missing_ok=True)
        files.write_bytes(manifest.with_suffix('.media'), b''.join(media))
        _write_json(manifest, known)
    return json.loads(manifest.read_text())


def _manifest(
    folder: pathlib.Path, settings: transcode.Settings, clips: Sequence[Listed], part: str
) -> pathlib.Path:
    facts = [_FORM, part, dataclasses.astuple(settings), clips]
    return folder / f'{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]}.json'


def _chunks(clips: Sequence[Listed]) -> list[tuple[Listed, ...]]:
    return cut(clips, CHUNK_CLIPS)


def _write_json(path: pathlib.Path, value: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(value))


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[Callable[..., futures.Future]]:
    """A function that submits calls, to this process where `workers` is 0."""
    if not workers:
        yield _now
        return
    # Spawned, so that no child inherits the lock and keeps it.
    pool = futures.ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)  # at an error, what has begun is finished, and kept


def _advance(bar: tqdm.tqdm, clips: int, future: futures.Future) -> None:
    if not future.cancelled():
        bar.update(clips)


def _now(function: Callable, *arguments: Any) -> futures.Future:
    future = futures.Future()
    future.set_result(function(*arguments))
    return future


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent process, and ends when it ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel

    def watch():
        connection.wait([parent])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
