"""Starting JAX's distributed runtime, for programs that run as several processes.

    perceiver-io train ... --distributed                       # SLURM, GKE, TPU slices: they tell
    perceiver-io train ... --distributed --coordinator_address=HOST:PORT \\
        --num_processes=N --process_id=I                    # elsewhere, once for each I

All processes need the same files under the same paths. Call `initialize` before JAX is used.
"""

import math
import sys

import jax
from absl import flags

from perceiver_io.core.errors import UsageError, UserError

TIMEOUT = 30 * 60  # seconds for all processes to start: queues start them one after the other
PEER_TIMEOUT = 100.0  # seconds, as JAX's own


def define_flags() -> None:
    """Defines the flags that `initialize_from_flags` reads."""
    flags.DEFINE_boolean('distributed', False, 'Run as one of several processes.')
    flags.DEFINE_string(
        'coordinator_address',
        None,
        'With --distributed: HOST:PORT at which process 0 can be reached; found by itself on '
        'SLURM, GKE and TPU slices, as are the next two.',
    )
    flags.DEFINE_integer('num_processes', None, 'With --distributed: how many.', lower_bound=1)
    flags.DEFINE_integer('process_id', None, 'With --distributed: which this is.', lower_bound=0)
    flags.DEFINE_float(
        'peer_timeout',
        PEER_TIMEOUT,
        'With --distributed: seconds after which a silent process counts as gone, and the others '
        'end.',
        lower_bound=1,
    )


def initialize_from_flags() -> None:
    """Connects the processes if --distributed is given.

    Raises:
        UsageError: the flags contradict each other.
        UserError: the others cannot be found, or do not come.
    """
    values = flags.FLAGS
    given = (values.coordinator_address, values.num_processes, values.process_id)
    if not values.distributed:
        if given != (None, None, None):
            raise UsageError(
                '--coordinator_address, --num_processes and --process_id need --distributed'
            )
        return
    if None in given and given != (None, None, None):
        raise UsageError(
            '--coordinator_address, --num_processes and --process_id must be given together'
        )
    if values.process_id is not None and values.process_id >= values.num_processes:
        raise UsageError(
            f'--process_id={values.process_id} must be below --num_processes={values.num_processes}'
        )
    initialize(
        values.coordinator_address,
        values.num_processes,
        values.process_id,
        peer_timeout=values.peer_timeout,
    )


def initialize(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: int = TIMEOUT,
    peer_timeout: float = PEER_TIMEOUT,
) -> None:
    """Connects this process with the others, and prints which it is.

    Args:
        coordinator_address: HOST:PORT of process 0; None to ask the cluster's environment, then
            also for the other two.
        num_processes: how many there are.
        process_id: which this is.
        timeout: seconds to wait for the others.
        peer_timeout: seconds after which `peers.watched_peers` ends a process whose peer is silent;
            the runtime itself waits twice as long.

    Raises:
        UserError: the others cannot be found, or do not come.
    """
    if coordinator_address is not None:
        print(
            f'process {process_id} waits for all {num_processes} at {coordinator_address}, at most '
            f'{timeout / 60:.0f} minutes',
            file=sys.stderr,
        )
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=math.ceil(2 * peer_timeout),
            shutdown_timeout_seconds=math.ceil(2 * peer_timeout),
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f'the processes of --distributed do not find each other ({str(error).splitlines()[0]}):'
            ' check --coordinator_address=HOST:PORT, --num_processes and --process_id'
        ) from error
    from jax._src.distributed import global_state  # JAX does not publish the address

    print(
        f'process {jax.process_index()} of {jax.process_count()}, '
        f'coordinator {global_state.coordinator_address}',
        file=sys.stderr,
    )
