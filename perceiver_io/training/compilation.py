"""Compiles the programs of an experiment for TPUs that are not here, and estimates their speed.

The programs are those that a run compiles: initialization, the training step and the evaluation
step. The compiler for TPUs comes with the package `libtpu` and needs no TPU.
"""

import dataclasses
import time
from collections.abc import Collection

import jax
from jax.sharding import Mesh

from perceiver_io.core.errors import UsageError, UserError, as_usage
from perceiver_io.distributed import sharding
from perceiver_io.distributed.chips import Chip, chip_of
from perceiver_io.distributed.hlo import Collective, read_program
from perceiver_io.training.experiment import Experiment
from perceiver_io.training.programs import Programs

PASSES = {'float32': 6, 'bfloat16': 1}  # bfloat16 passes of a product at the highest precision
USABLE = 0.95  # of the memory of a chip, the share that a program can count on


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A program compiled for one chip of a topology.

    Attributes:
        name: 'train', 'eval' or 'init'.
        chips: of the topology.
        examples: in a batch over all chips; 0 for 'init'.
        seconds: that the compilation took.
        arguments: bytes of a chip's memory that hold the arguments.
        temporaries: bytes for intermediate values.
        peak: bytes in use at most.
        flops: of the matrix products on a chip, loops counted.
        traffic: bytes that a chip reads from and writes to its memory; an upper bound.
        collectives: communications between chips.
    """

    name: str
    chips: int
    examples: int
    seconds: float
    arguments: int
    temporaries: int
    peak: int
    flops: float
    traffic: int
    collectives: tuple[Collective, ...]

    def largest_batch(self, chip: Chip) -> int:
        """Examples over all chips that fit, if intermediate values grow with the batch."""
        if not self.examples:
            return 0
        fixed = self.peak - self.temporaries
        fit = int(self.examples * (USABLE * chip.memory - fixed) / max(self.temporaries, 1))
        return max(fit - fit % self.chips, 0)


@dataclasses.dataclass(frozen=True)
class Roofline:
    """A lower bound of the time of a program: seconds for each of its limits.

    Arithmetic and memory traffic overlap; communication is added.
    """

    arithmetic: float
    memory: float
    links: float

    @property
    def total(self) -> float:
        return max(self.arithmetic, self.memory) + self.links


def roofline(program: Compiled, chip: Chip, dtype: str) -> Roofline:
    """The bounds at the published peaks of a chip.

    A float32 product at the highest precision takes six passes of bfloat16. An all-reduce of n
    bytes sends 2 n bytes from every chip; other collectives n.
    """
    sent = sum(
        (2 if collective.kind == 'all-reduce' else 1) * collective.bytes * collective.times
        for collective in program.collectives
    )
    return Roofline(
        arithmetic=program.flops * PASSES[dtype] / chip.flops,
        memory=program.traffic / chip.bandwidth,
        links=sent / chip.links,
    )


class TopologyCompiler:
    """Compiles the programs of an experiment for a topology.

    Args:
        experiment: complete, with the number of classes.
        topology: as libtpu names it, such as 'v5e:16x16'.
        programs: those that will be compiled: some of 'init', 'train', 'eval'.

    Raises:
        UsageError: the topology is unknown, or does not fit the batch.
        UserError: libtpu is not installed.
    """

    def __init__(self, experiment: Experiment, topology: str, programs: Collection[str]) -> None:
        self.chip = chip_of(topology)
        with as_usage():
            self._mesh = sharding.make_mesh(experiment.mesh, topology_devices(topology))
            experiment.check_mesh(self._mesh, programs)
        self._programs = Programs(experiment, self._mesh, 'tpu')

    @property
    def mesh(self) -> Mesh:
        """All chips of the topology."""
        return self._mesh

    def compile(self, name: str) -> Compiled:
        """Compiles a program; takes minutes.

        Raises:
            UserError: it does not fit into the memory of a chip.
        """
        source = {
            'init': self._programs.init,
            'train': self._programs.train,
            'eval': self._programs.evaluate,
        }[name]()
        lowered = source.jitted.trace(*source.arguments).lower(lowering_platforms=('tpu',))
        start = time.monotonic()
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if 'RESOURCE_EXHAUSTED' not in str(error):
                raise
            raise UserError(
                f'the program {name!r} does not fit into the {self.chip.memory / 1e9:.0f} GB of a '
                'chip: lower the batch size, or raise --config.training.accumulate or '
                f'--config.mesh.context ({str(error).splitlines()[0][:200]})'
            ) from error
        memory = compiled.memory_analysis()
        program = read_program(compiled.as_text())
        return Compiled(
            name=name,
            chips=self._mesh.size,
            examples=source.examples,
            seconds=time.monotonic() - start,
            arguments=memory.argument_size_in_bytes,
            temporaries=memory.temp_size_in_bytes,
            peak=memory.peak_memory_in_bytes,
            flops=source.flops(),
            traffic=program.traffic,
            collectives=program.collectives,
        )


def topology_devices(topology: str) -> list[jax.Device]:
    """The devices of a topology, which need not be here.

    Raises:
        UsageError: the compiler does not know the topology.
        UserError: libtpu is not installed.
    """
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(platform='tpu', topology_name=topology).devices
    except Exception as error:  # of several types, none of them documented
        reason = str(error).splitlines()[0][:200]
        if 'TPU support not installed' in str(error) or 'No PJRT' in str(error):
            raise UserError(
                f'programs for TPUs need libtpu: pip install "jax[tpu]" ({reason})'
            ) from error
        raise UsageError(f'--topology={topology} is refused by libtpu: {reason}') from error
    return sorted(found, key=lambda device: device.id)
