"""Measures and reports that the benchmarks share: time, memory, arithmetic."""

import collections
import json
import math
import os
import pathlib
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np


class Times(NamedTuple):
    """Medians over the runs: wall-clock time, and processor time of all cores together.

    Processor time varies less on a machine that is shared.
    """

    seconds: float
    cpu_seconds: float


def interleaved(functions: Mapping[str, Callable[[], Any]], runs: int) -> dict[str, Times]:
    """Times all functions in turn, `runs` times, after one run of each that is not counted."""
    for function in functions.values():
        jax.block_until_ready(function())
    times = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            clock, processor = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {name: Times(*np.median(one, axis=0).tolist()) for name, one in times.items()}


def memory(compiled: jax.stages.Compiled) -> dict[str, float]:
    """Megabytes by XLA's analysis: of temporary arrays, and with arguments and results."""
    analysis = compiled.memory_analysis()
    temporary = analysis.temp_size_in_bytes
    total = temporary + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    return {'temporary_mb': temporary / 1e6, 'total_mb': total / 1e6}


def matmul_flops(compiled: jax.stages.Compiled) -> float:
    """Multiplications and additions of all matrix products that a program for CPUs runs.

    XLA's `cost_analysis` counts the body of a loop once; here it is multiplied by the trip count.
    Elementwise operations are left out; they are half a percent of those of the plain way.
    """
    computations, calls, entry = _read_program(compiled.as_text())
    times = collections.Counter()

    def visit(name, count):
        times[name] += count
        for called, trips in calls[name]:
            visit(called, count * trips)

    visit(entry, 1)
    return float(sum(count * _flops_of(computations[name]) for name, count in times.items()))


def _read_program(text: str) -> tuple[dict, dict, str]:
    """The lines of every computation, which others it calls and how often, and the entry's name."""
    computations, calls, entry, current = {}, collections.defaultdict(list), None, None
    for line in text.splitlines():
        head = re.match(r'(ENTRY )?%?([\w.\-]+) .*\{$', line)
        if head:
            current = head[2]
            computations[current] = []
            entry = current if head[1] else entry
        elif current:
            computations[current].append(line)
            trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', line)
            for called in re.findall(r'body=%?([\w.\-]+)', line):
                if trips is None:
                    raise ValueError(f'the loop {called} has no known trip count')
                calls[current].append((called, int(trips[1])))
            calls[current] += [
                (called, 1) for called in re.findall(r'(?:calls|to_apply)=%?([\w.\-]+)', line)
            ]
    return computations, calls, entry


def _flops_of(lines: Sequence[str]) -> int:
    shapes, flops = {}, 0
    for line in lines:
        made = re.match(r'\s*(?:ROOT )?%?([\w.\-]+) = \w+\[([\d,]*)\]', line)
        if made:
            shapes[made[1]] = [int(size) for size in made[2].split(',') if size]
        product = re.search(r' dot\(%?([\w.\-]+), ', line)
        if product:
            contracted = re.search(r'lhs_contracting_dims=\{([\d,]+)\}', line)
            inner = [shapes[product[1]][int(axis)] for axis in contracted[1].split(',')]
            flops += 2 * math.prod(shapes[made[1]]) * math.prod(inner)
    return flops


def matmul_peak(dtype: str, size: int = 4096) -> float:
    """Measured FLOP/s of a square matrix product, the highest rate to expect of the device."""
    x = jax.numpy.ones((size, size), dtype)
    product = jax.jit(lambda x: x @ x)
    return 2 * size**3 / interleaved({'': lambda: product(x)}, 5)[''].seconds


def environment() -> dict[str, str]:
    device = jax.devices()[0]
    return {
        'command': ' '.join(['python', *sys.argv]),
        'device': f'{len(jax.devices())} x {device.device_kind}',
        'processor': f'{os.cpu_count()} x {_processor()}',
        'load': ' '.join(f'{load:.1f}' for load in os.getloadavg()),
        'versions': f'python {platform.python_version()}, jax {jax.__version__}, '
        f'jaxlib {jaxlib.__version__}, numpy {np.__version__}',
    }


def _processor() -> str:
    info = pathlib.Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def report(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Writes the rows, the environment and `more` as JSON, and prints a table of the rows."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {'environment': environment(), 'rows': rows} | more
    path.write_text(json.dumps(content, indent=2) + '\n')
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns] + [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(
        '\n'
        + '\n'.join(
            '  '.join(cell.rjust(width) for cell, width in zip(row, widths)) for row in cells
        )
    )
    for name, value in (environment() | more).items():
        print(f'{name}: {value}')
    print(f'written to {path}')


def _cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.4g}' if isinstance(value, float) else str(value)
