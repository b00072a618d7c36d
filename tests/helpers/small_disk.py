"""A small disk that can be full."""

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, kilobytes: int) -> Iterator[None]:
    """Mounts a disk of this size; skips the test where that is not allowed."""
    if os.geteuid() != 0:
        pytest.skip('only root mounts a small disk')
    options = f'size={kilobytes}k'
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', str(folder)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f'a tmpfs cannot be mounted here: {mounted.stderr.strip()}')
    try:
        yield
    finally:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def fill(disk: pathlib.Path, left: int) -> pathlib.Path:
    """Writes a file that leaves so many bytes of a disk free; returns it."""
    ballast = disk / 'ballast'
    usage = os.statvfs(disk)
    missing = usage.f_bavail * usage.f_bsize - left
    if missing > 0:
        ballast.write_bytes(b'\1' * missing)
    return ballast
