"""At most one run trains in a folder: a lock that a crash releases."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import sys
from collections.abc import Iterator

from perceiver_io.core.errors import UserError
from perceiver_io.core.files import make_folder
from perceiver_io.distributed.processes import from_first, is_first

LOCK = 'train.lock'


@contextlib.contextmanager
def run_lock(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a run's folder, which is created if it does not exist.

    The operating system releases the lock when the process ends, however it ends. The file
    `train.lock` names the host and the process. It is removed at the end, and so is the folder if
    this created it and nothing else is in it.

    Between hosts, it works on file systems that lock for all of them: NFS version 4 does, some
    version 3 mounts (`nolock`) do not. Where locks are not supported, a warning says so.

    Of several processes, the first holds the lock for all; every one of them must call this.

    Raises:
        UserError: another run holds the lock, or the folder cannot be written.
    """
    existed = pathlib.Path(workdir).exists()
    file, problem = None, ''
    if is_first():
        try:
            file = _acquire(make_folder(workdir, '--workdir') / LOCK)
        except UserError as error:
            problem = str(error)
    problem = from_first(problem)  # all processes stop, or none
    if problem:
        raise UserError(problem)
    try:
        yield
    finally:
        if file is not None:
            _release(file, pathlib.Path(workdir), remove_folder=not existed)


def _release(file: int, folder: pathlib.Path, *, remove_folder: bool) -> None:
    (folder / LOCK).unlink(missing_ok=True)
    os.close(file)
    if remove_folder:
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()


def _acquire(path: pathlib.Path) -> int:
    """The open file, locked; its content is this process's."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                print(
                    f'{path} cannot be locked ({error.strerror}): make sure that no other run '
                    'trains in this folder',
                    file=sys.stderr,
                )
                return file
            holder = os.read(file, 200).decode(errors='replace').strip()
            os.close(file)
            raise UserError(
                f'another run ({holder or "unknown"}) trains in this folder, {path.parent}: wait '
                'for its end, or choose another --workdir'
            ) from error
        # The run before may have removed the file between opening and locking.
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            os.truncate(file, 0)
            try:
                os.pwrite(file, f'host {socket.gethostname()}, pid {os.getpid()}\n'.encode(), 0)
            except OSError as error:
                raise UserError(f'{path} cannot be written: {error.strerror}') from error
            return file
        os.close(file)
