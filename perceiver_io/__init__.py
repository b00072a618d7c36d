"""Perceiver IO for multimodal autoencoding, in JAX and Haiku.

A video, its audio and its class label are encoded into a few hundred latent vectors and decoded
again. The names below are the public interface; each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from perceiver_io.core.version import VERSION

if TYPE_CHECKING:
    from perceiver_io.checkpoints.checkpoint import Checkpoint
    from perceiver_io.checkpoints.loading import load, load_checkpoint
    from perceiver_io.core.clip import Clip, ClipSpec, Output
    from perceiver_io.inference.arrays import read_clips, write_clips
    from perceiver_io.models.autoencoder import Autoencoder
    from perceiver_io.models.config import AutoencoderConfig

__version__ = VERSION
__all__ = [
    'Autoencoder',
    'AutoencoderConfig',
    'Checkpoint',
    'Clip',
    'ClipSpec',
    'Output',
    'load',
    'load_checkpoint',
    'read_clips',
    'write_clips',
]

_MODULES = {
    'Autoencoder': 'perceiver_io.models.autoencoder',
    'AutoencoderConfig': 'perceiver_io.models.config',
    'Checkpoint': 'perceiver_io.checkpoints.checkpoint',
    'Clip': 'perceiver_io.core.clip',
    'ClipSpec': 'perceiver_io.core.clip',
    'Output': 'perceiver_io.core.clip',
    'load': 'perceiver_io.checkpoints.loading',
    'load_checkpoint': 'perceiver_io.checkpoints.loading',
    'read_clips': 'perceiver_io.inference.arrays',
    'write_clips': 'perceiver_io.inference.arrays',
}


def __getattr__(name: str) -> Any:
    # `perceiver-io --help` answers at once, and processes that only read media stay small.
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
