"""Published figures of TPU chips, for estimates of programs that are compiled without them.

Source: the pages of the versions in the documentation of Google Cloud TPU.
"""

import dataclasses

from perceiver_io.core.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip as its maker describes it.

    Attributes:
        flops: peak of bfloat16 products, FLOP/s.
        bandwidth: of the high-bandwidth memory (HBM), bytes/s.
        memory: HBM, bytes.
        links: bandwidth between chips, all links together, bytes/s.
    """

    flops: float
    bandwidth: float
    memory: float
    links: float


CHIPS = {
    'v4': Chip(275e12, 1228e9, 32e9, 300e9),
    'v5e': Chip(197e12, 819e9, 16e9, 200e9),
    'v5p': Chip(459e12, 2765e9, 95e9, 600e9),
    'v6e': Chip(918e12, 1640e9, 32e9, 400e9),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as 'v5e:16x16'.

    Raises:
        UsageError: its figures are not known.
    """
    name = topology.partition(':')[0]
    if name not in CHIPS:
        raise UsageError(
            f'--topology={topology}: give one of {", ".join(CHIPS)} and its grid of chips, '
            'such as v5e:16x16'
        )
    return CHIPS[name]
