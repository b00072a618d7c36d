"""A few of many, evenly spread."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

_Item = TypeVar('_Item')


def spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` of the items, evenly from the first to the last; one is the first."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places.tolist()]
