"""Processes of their own with several devices that the CPU pretends to be."""

import os
import subprocess
import sys
import textwrap


def environment(devices: int) -> dict[str, str]:
    """For a process with so many devices, which finds the modules of this one."""
    return os.environ | {
        'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} --xla_force_host_platform_device_count={devices}',
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(sys.path),
    }


def run_code(code: str, devices: int, timeout: float = 300) -> str:
    """Runs Python code with so many devices, to a successful end, and returns what it printed."""
    done = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)],
        env=environment(devices),
        text=True,
        capture_output=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
