"""How a compiled program would scale, on paper: more chips, each with as many examples as before.

Assumptions, none of them measured:

- every chip does what it does in the compiled program, at the bounds of `compilation.roofline`;
- a collective is a ring over all N chips, of which each sends the share (N - 1) / N of what it
  sends in a ring without end;
- links have their published rate for every N, also where a small slice lacks the links that close
  the rings of a whole one;
- communication overlaps with nothing, and has no latency;
- the input delivers every example in time.
"""

import dataclasses
from collections.abc import Sequence

from perceiver_io.distributed.chips import Chip
from perceiver_io.training.compilation import Compiled, roofline


@dataclasses.dataclass(frozen=True)
class Scaled:
    """A program on a number of chips.

    Attributes:
        chips: how many.
        examples: in a batch over all of them.
        seconds: that the program takes at least.
        efficiency: the time without communication over `seconds`.
    """

    chips: int
    examples: int
    seconds: float
    efficiency: float

    @property
    def rate(self) -> float:
        """Examples in a second, at most."""
        return self.examples / self.seconds


def weak_scaling(program: Compiled, chip: Chip, dtype: str, chips: Sequence[int]) -> list[Scaled]:
    """A program on each number of chips, with the examples of a chip unchanged.

    Args:
        program: compiled for some number of chips.
        chip: its chip.
        dtype: of its matrix products.
        chips: numbers of chips from 1 up.
    """
    bound = roofline(program, chip, dtype)
    alone = max(bound.arithmetic, bound.memory)
    scaled = []
    for count in chips:
        seconds = alone + bound.links * (count - 1) / count
        examples = program.examples * count // program.chips
        scaled.append(Scaled(count, examples, seconds, alone / seconds))
    return scaled
