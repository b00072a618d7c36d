"""Trains the multimodal autoencoder.

    perceiver-io train --config=demo --workdir=DIR [--config.group.key=value ...]

The same command continues a run that was stopped, to the same parameters, bit for bit. SIGTERM,
SIGUSR1 and Ctrl-C save the state and stop. `docs/training.md` lists the keys that may change while
a run goes on, and the ways to train on several devices and hosts.
"""

import os
import signal
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from perceiver_io import cli
from perceiver_io.core.errors import UsageError
from perceiver_io.distributed import compilation_cache
from perceiver_io.distributed.peers import watched_peers
from perceiver_io.distributed.preemption import Stopped, StopSignals
from perceiver_io.distributed.start import define_flags as define_distributed_flags
from perceiver_io.distributed.start import initialize_from_flags
from perceiver_io.training import loop, start, wandb_sink
from perceiver_io.training.metric_writer import Extras
from perceiver_io.training.run_lock import run_lock


def main(arguments: Sequence[str]) -> int:
    cli.no_arguments(arguments)
    values = flags.FLAGS
    if values.config is None or not values.workdir:
        raise UsageError('both --config=demo, or another config, and --workdir=DIR are needed')
    if values.wandb:
        wandb_sink.installed()  # before the folder of the run is made
    compilation_cache.use_from_flag()
    initialize_from_flags()
    try:
        with watched_peers(values.peer_timeout), run_lock(values.workdir), StopSignals() as stop:
            begin = start.decide(values.config.to_dict(), values.workdir)
            extras = Extras(
                values.histograms,
                values.wandb,
                values.gradient_norms,
                values.selectivity,
                values.profile,
                values.watchdog,
                values.watchdog_exit,
            )
            loop.train(begin, values.workdir, stop, extras)
    except Stopped as stopped:
        print(f'{stopped}; to continue: {cli.command_line()}', file=sys.stderr)
        return 128 + signal.SIGINT if stopped.signal == signal.SIGINT else os.EX_OK
    return os.EX_OK


def define_flags() -> None:
    config_flags.DEFINE_config_file(
        'config', None, f'Config: a path, or one of {", ".join(cli.shipped_configs())}.'
    )
    flags.DEFINE_string('workdir', None, 'Folder of the run; created if it does not exist.')
    flags.DEFINE_bool('histograms', False, 'Histograms of the parameters at every evaluation.')
    flags.DEFINE_bool('gradient_norms', False, 'The norms of the gradients by group of modules.')
    flags.DEFINE_bool(
        'selectivity', False, 'What attention and output depend on, at every evaluation.'
    )
    flags.DEFINE_bool('wandb', False, 'Writes all metrics to Weights & Biases too.')
    flags.DEFINE_integer(
        'profile',
        0,
        'Profiles so many steps, for TensorBoard; into WORKDIR/profile.',
        lower_bound=0,
    )
    flags.DEFINE_float(
        'watchdog',
        0.0,
        'Minutes without progress after which all threads are shown.',
        lower_bound=0,
    )
    flags.DEFINE_bool('watchdog_exit', False, 'With --watchdog: then ends the process, status 1.')
    define_distributed_flags()
    compilation_cache.define_flags()


if __name__ == '__main__':
    cli.run(main, define_flags)
