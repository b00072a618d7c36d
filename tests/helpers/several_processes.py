"""`train.py` as several processes on this machine, connected as those of a cluster are."""

import contextlib
import pathlib
import socket
import subprocess
import sys

from helpers.tiny import TINY_DEMO

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS = 20
KEYS: dict[str, object] = TINY_DEMO | {
    'training.steps': STEPS,
    'training.log_every': 1,
    'training.eval_every': 10,
    'training.checkpoint_every': 10,
    'model.dropout': 0.1,
    # Muon's updates do not shrink with the gradients: the demo's rate would magnify rounding.
    'optimizer.learning_rate': 1e-5,
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(('localhost', 0))
        return found.getsockname()[1]


def start(
    workdir, cache, processes, *more, keys=KEYS, outputs=(), environment=None
) -> list[subprocess.Popen]:
    """`train.py` as so many processes; one alone runs without --distributed.

    What they show can be read from them, or goes to the files `outputs`, one for each.
    """
    port = free_port()
    values = keys | {'data.cache': str(cache)}
    command = [
        sys.executable,
        str(ROOT / 'train.py'),
        f'--config={ROOT}/configs/demo.py',
        f'--workdir={workdir}',
        *more,
        *[f'--config.{name}={value}' for name, value in values.items()],
    ]
    distributed = [
        '--distributed',
        f'--coordinator_address=localhost:{port}',
        f'--num_processes={processes}',
    ]
    running = []
    for index in range(processes):
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(open(outputs[index], 'w')) if outputs else subprocess.PIPE
            running.append(
                subprocess.Popen(
                    command + (distributed + [f'--process_id={index}'] if processes > 1 else []),
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=environment,
                )
            )
    return running


def finish(running) -> list[str]:
    shown = [process.communicate(timeout=500)[0] for process in running]
    assert [process.returncode for process in running] == [0] * len(running), shown
    return shown
