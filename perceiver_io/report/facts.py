"""What a result depends on besides the config: versions, device, commit."""

import importlib.metadata
import pathlib
import platform
import subprocess

import jax

from perceiver_io.core.version import VERSION

_PACKAGES = ('jax', 'jaxlib', 'dm-haiku', 'numpy', 'av', 'opencv-python-headless')


def surroundings() -> dict[str, str]:
    """Names and values, to be shown."""
    devices = jax.devices()
    found = {'perceiver_io': VERSION, 'commit': commit(), 'Python': platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found | {
        'devices': f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform})',
        'processes': str(jax.process_count()),
        'system': platform.platform(),
    }


def commit() -> str:
    """Of the checkout that the package lies in; a word that says so if there is none."""
    root = pathlib.Path(__file__).resolve().parents[2]
    if not (root / '.git').exists():
        return 'not a git checkout'
    try:
        done = subprocess.run(
            ['git', '-C', str(root), 'describe', '--always', '--dirty', '--abbrev=12'],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return 'unknown'
    return done.stdout.strip() or 'unknown'
