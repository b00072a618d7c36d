"""What the processes of one computation tell each other, apart from arrays on the mesh."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from perceiver_io.core.errors import UserError


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def from_first(text: str) -> str:
    """The text that the first process gives, on all processes; every one of them must call this."""
    if jax.process_count() == 1:
        return text
    data = np.frombuffer(text.encode() if is_first() else b'', np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    padded = data if is_first() else np.zeros(size, np.uint8)
    return (
        np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes().decode()
    )


def on_first(work: Callable[[], None]) -> None:
    """Runs something on the first process; every process must call this, and waits for its end.

    Raises:
        UserError: it raised one; on all processes.
    """
    problem = ''
    if is_first():
        try:
            work()
        except UserError as error:
            problem = str(error)
    problem = from_first(problem)
    if problem:
        raise UserError(problem)


def arrays_from_first(tree: Any) -> Any:
    """A tree of arrays of the first process, on all processes; every one of them must call this.

    For what is computed in numpy, whose rounding depends on the processor.
    """
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


def barrier(name: str) -> None:
    """Waits until all processes call this with the same name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
