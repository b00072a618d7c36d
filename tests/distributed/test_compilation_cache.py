"""`--compilation_cache`: a folder that JAX fills, of every program that compiles."""

import importlib
import os
import sys

import jax
import jax.numpy as jnp
import pytest
from absl import flags
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from perceiver_io import cli
from perceiver_io.distributed import compilation_cache

PROGRAMS = {
    'train': ['--config=demo', '--workdir=unused'],
    'eval': ['--checkpoint=unused', '--output=unused'],
    'reconstruct': ['file.mp4', '--checkpoint=unused', '--output=unused'],
    'encode': ['file.mp4', '--checkpoint=unused', '--output=unused.npz'],
    'decode': ['latents.npz', '--checkpoint=unused', '--output=unused'],
    'sweep': ['bottleneck', '--output=unused'],
}


@pytest.fixture
def fresh_cache(monkeypatch):
    """JAX's own settings, as after its start, and put back at the end."""
    names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
    before = {name: getattr(jax.config, name) for name in names}
    monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', 'before')
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def use(*arguments: str) -> None:
    with cli.defined(compilation_cache.define_flags):
        flags.FLAGS(['program', *arguments])
        compilation_cache.use_from_flag()


def test_what_is_compiled_is_kept_in_the_folder(tmp_path, fresh_cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use('--compilation_cache=kept/programs')
    jax.jit(lambda x: jnp.sin(x) * 3.25)(jnp.ones(3)).block_until_ready()
    assert list((tmp_path / 'kept' / 'programs').iterdir())
    assert os.environ['JAX_COMPILATION_CACHE_DIR'] == str(tmp_path / 'kept' / 'programs')


def test_without_the_flag_nothing_changes(fresh_cache):
    before = jax.config.jax_compilation_cache_dir
    use()
    assert jax.config.jax_compilation_cache_dir == before
    assert os.environ['JAX_COMPILATION_CACHE_DIR'] == 'before'


def test_an_address_of_a_bucket_is_no_local_folder(fresh_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use('--compilation_cache=gs://bucket/folder')
    assert jax.config.jax_compilation_cache_dir == 'gs://bucket/folder'
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('program', PROGRAMS)
def test_every_program_that_compiles_takes_it(program, tmp_path, monkeypatch, capsys):
    """It is used before anything else, so a folder that cannot be made ends the program."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    arguments = [program, *PROGRAMS[program], '--compilation_cache=file/programs']
    monkeypatch.setattr(sys, 'argv', arguments)
    module = importlib.import_module(f'perceiver_io.{program}')
    with pytest.raises(SystemExit) as stop:
        cli.run(module.main, module.define_flags)
    assert stop.value.code == 1
    assert '--compilation_cache=file/programs cannot be written' in capsys.readouterr().err
