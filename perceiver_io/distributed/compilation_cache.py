"""Keeping compiled programs from one start to the next: the flag --compilation_cache.

JAX writes what it compiles into a folder and reads it from there, if program, devices and versions
are the same. Call `use_from_flag` before JAX compiles anything.
"""

import os

import jax
from absl import flags

from perceiver_io.core import files


def define_flags() -> None:
    """Defines the flag that `use_from_flag` reads."""
    flags.DEFINE_string(
        'compilation_cache',
        None,
        'Folder in which compiled programs are kept for the next start; without it, that of the '
        'variable JAX_COMPILATION_CACHE_DIR, if it is set.',
    )


def use_from_flag() -> None:
    """Keeps compiled programs in the folder of --compilation_cache, if it is given.

    Programs that this process starts keep theirs there too. The folder can have an address such as
    gs://BUCKET/FOLDER.

    Raises:
        UserError: it cannot be written.
    """
    folder = flags.FLAGS.compilation_cache
    if not folder:
        return
    if '://' not in folder:
        folder = str(files.make_folder(folder, '--compilation_cache').resolve())
    os.environ['JAX_COMPILATION_CACHE_DIR'] = folder
    jax.config.update('jax_compilation_cache_dir', folder)
