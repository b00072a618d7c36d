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

LOCK = 'train.lock'


@contextlib.contextmanager
def run_lock(workdir: str | os.PathLike) -> Iterator[None]:
    """Holds the lock of a run's folder, which is created if it does not exist.

    The operating system releases the lock when the process ends, however it ends. The file
    `train.lock` names the host and the process. It is removed at the end, and so is the folder if
    this created it and nothing else is in it.

    Between hosts, it works on file systems that lock for all of them: NFS version 4 does, some
    version 3 mounts (`nolock`) do not. Where locks are not supported, a warning says so.

    Raises:
        UserError: another run holds the lock, or the folder cannot be written.
    """
    existed = pathlib.Path(workdir).exists()
    folder = make_folder(workdir, '--workdir')
    file = _acquire(folder / LOCK)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(file)
        if not existed:
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
            os.pwrite(file, f'host {socket.gethostname()}, pid {os.getpid()}\n'.encode(), 0)
            return file
        os.close(file)
