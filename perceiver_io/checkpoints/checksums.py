"""Whether the arrays that were read are those that were saved.

Orbax's formats have checksums for the lists of the arrays, not for their values.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

KEY = 'crc32'  # in the metadata of a checkpoint


def checksum(tree: Any) -> int | None:
    """CRC-32 of all values, the same on any devices; None if this process does not hold them all.

    Args:
        tree: a pytree of arrays; the order of its leaves counts.
    """
    total = 0
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            return None
        values = np.ascontiguousarray(jax.device_get(leaf))
        total = zlib.crc32(values.view(np.uint8).data, total)
    return total


def check(items: Mapping[str, Any], metadata: Mapping[str, Any] | None) -> None:
    """Compares items of a checkpoint with its metadata; checks nothing if that has no checksums.

    Raises:
        OSError: values differ from those that were saved.
    """
    saved = (metadata or {}).get(KEY) or {}
    for name, tree in items.items():
        if saved.get(name) is not None and checksum(tree) not in (None, saved[name]):
            raise OSError(f'the values of its {name} are not those that were saved')
