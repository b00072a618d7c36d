"""Shared fixtures, and how all the processes of a test run compile."""

import importlib.metadata
import os
import pathlib
import tempfile

import pytest

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    _CACHE = tempfile.TemporaryDirectory(prefix='perceiver_io_tests_')
    os.environ['JAX_COMPILATION_CACHE_DIR'] = _CACHE.name
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.2'

# Most of the time of a test is spent in compiling tiny models. Without these optimizations of the
# CPU backend it takes a fourth of it; set XLA_FLAGS to an empty string to test with them.
if 'XLA_FLAGS' not in os.environ:
    _FLAGS = ['--xla_backend_optimization_level=0', '--xla_cpu_parallel_codegen_split_count=1']
    if tuple(map(int, importlib.metadata.version('jaxlib').split('.')[:2])) < (0, 11):
        _FLAGS.append('--xla_cpu_use_fusion_emitters=false')  # newer versions do not know it
    os.environ['XLA_FLAGS'] = ' '.join(_FLAGS)

ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope='session')
def shared_clips() -> pathlib.Path:
    """The folder of real clips that lies beside some checkouts; never part of the project."""
    folder = ROOT.parent / 'shared' / 'clips'
    if not folder.is_dir():
        pytest.skip('no ../shared/clips beside this checkout: real clips are not in the project')
    return folder
