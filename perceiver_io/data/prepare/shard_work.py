"""Prepares a dataset shard by shard, so that an interruption loses little.

A shard is made of 768 listed clips, and a chunk of 16 of them is what one process does at a time.
Finished shards and chunks are stored in a work folder, under a digest of their clips and of the
settings, so that a later run uses those that it needs and no others. (It does not notice a file
that changed under the same name.) Each has two files, media and manifest, which are written whole;
the manifest is written last.
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
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from concurrent.futures import process
from multiprocessing import connection
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.core import files
from perceiver_io.core.errors import UserError
from perceiver_io.core.progress import progress_bar
from perceiver_io.data.prepare import transcode
from perceiver_io.data.prepare.trees import Listed

# `train` of Kinetics is 706 shards of half a gigabyte each. A reader keeps all of them open, and a
# process may usually open 1,024 files.
SHARD_CLIPS = 768
CHUNK_CLIPS = 16
_FORM = 3  # of the stored files; raise it when they change, so that earlier work is not used


class Example(NamedTuple):
    """A stored clip without its media."""

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
    """A finished shard: its file (None where no clip can be used), and what it contains."""

    path: pathlib.Path | None
    examples: list[Example]
    rejects: list[Reject]


WriteShard = Callable[[pathlib.Path, Iterator[tuple[Example, bytes]]], None]


@dataclasses.dataclass(frozen=True)
class Work:
    """A work folder; it can be pickled for worker processes.

    Attributes:
        folder: its path, on a file system that all workers share.
        settings: what is stored and what is rejected.
        write_shard: writes a file of pairs (example, media).
    """

    folder: pathlib.Path
    settings: transcode.Settings
    write_shard: WriteShard

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Creates and locks the folder; UserError where another process has locked it."""
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
                    path.unlink()  # incomplete, from a run that was killed
            yield

    def run(self, shards: Sequence[Sequence[Listed]], workers: int) -> list[Shard]:
        """Processes all shards with a progress bar, in `workers` processes; in this one for 0."""
        todo = [
            chunk
            for shard in shards
            if not self._manifest(shard).exists()
            for chunk in _chunks(shard)
        ]
        total = sum(map(len, shards))
        bar = progress_bar(
            description='preparing clips',
            total=total,
            initial=total - sum(map(len, todo)),
            unit='clip',
            smoothing=0.02,
        )
        with bar, _pool(workers) as submit:
            done: dict[tuple[Listed, ...], futures.Future[Any]] = {}
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

    def _wait(self, future: futures.Future[Any]) -> None:
        try:
            future.result()
        except process.BrokenProcessPool as error:
            names = ' or '.join(path.read_text() for path in self.folder.glob('*.reading'))
            raise UserError(
                f'a worker process died, killed or while it read {names}: run again, '
                'and if it dies again, remove this file'
            ) from error

    def do_shard(self, clips: Sequence[Listed]) -> Shard:
        """Creates a shard from its chunks, or reads the manifest of a finished one."""
        manifest = self._manifest(clips)
        path = manifest.with_suffix('.shard')
        if not manifest.exists():
            chunks = _chunks(clips)
            found = [_do_chunk(self.folder, self.settings, chunk) for chunk in chunks]
            examples = [Example(*each) for chunk in found for each in chunk['examples']]
            rejects = [each for chunk in found for each in chunk['rejects']]
            if examples:
                with files.written_whole(path) as partial:
                    self.write_shard(partial, zip(examples, self._media(chunks, found)))
            _write_json(manifest, {'examples': examples, 'rejects': rejects})
            for chunk in chunks:
                for suffix in ('.json', '.media'):
                    self._manifest(chunk, 'chunk').with_suffix(suffix).unlink(missing_ok=True)
        known = json.loads(manifest.read_text())
        examples = [Example(*each) for each in known['examples']]
        return Shard(
            path if examples else None, examples, [Reject(*each) for each in known['rejects']]
        )

    def _media(
        self, chunks: Sequence[Sequence[Listed]], found: Sequence[dict[str, Any]]
    ) -> Iterator[bytes]:
        for chunk, known in zip(chunks, found):
            with open(self._manifest(chunk, 'chunk').with_suffix('.media'), 'rb') as file:
                for size in known['sizes']:
                    yield file.read(size)

    def _manifest(self, clips: Sequence[Listed], part: str = 'shard') -> pathlib.Path:
        return _manifest(self.folder, self.settings, clips, part)


def cut(clips: Sequence[Listed], size: int) -> list[tuple[Listed, ...]]:
    """The clips in parts of at most `size`, each of one split."""
    splits: dict[str, list[Listed]] = {}
    for clip in clips:
        splits.setdefault(clip.split, []).append(clip)
    return [
        tuple(part[first : first + size])
        for part in splits.values()
        for first in range(0, len(part), size)
    ]


def write_index(path: pathlib.Path, examples: Sequence[Example]) -> None:
    """Writes names, labels, lengths and whether there is audio, in the order of the records."""
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
    """Stores the media of a chunk in the folder; returns examples, sizes of media, and rejects."""
    manifest = _manifest(folder, settings, clips, 'chunk')
    if not manifest.exists():
        known: dict[str, list[Any]] = {'examples': [], 'sizes': [], 'rejects': []}
        media = []
        reading = folder / f'{os.getpid()}.reading'  # names the file at which a worker died
        for clip in clips:
            files.write_text(reading, clip.path)
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
def _pool(workers: int) -> Iterator[Callable[..., futures.Future[Any]]]:
    """A function that submits calls, which run at once in this process where `workers` is 0."""
    if not workers:
        yield _now
        return
    # Spawned, because a forked child would inherit the lock and keep it.
    pool = futures.ProcessPoolExecutor(workers, multiprocessing.get_context('spawn'), _start_worker)
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)  # at an error, chunks in progress are finished


def _advance(bar: Any, clips: int, future: futures.Future[Any]) -> None:
    if not future.cancelled():
        bar.update(clips)


def _now(function: Callable[..., Any], *arguments: Any) -> futures.Future[Any]:
    future: futures.Future[Any] = futures.Future()
    future.set_result(function(*arguments))
    return future


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent process, and exits when the parent does, even if it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
