"""Shared fixtures, and one compilation cache for all the processes of a test run."""

import os
import pathlib
import tempfile

import pytest

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix='perceiver_io_tests_')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.5'

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_clips() -> pathlib.Path:
    """The folder of real clips that lies beside some checkouts; never part of the project."""
    folder = ROOT.parent / 'shared' / 'clips'
    if not folder.is_dir():
        pytest.skip('no ../shared/clips beside this checkout: real clips are not in the project')
    return folder
