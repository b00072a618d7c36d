"""`perceiver-io compile`: the estimate, and a program for TPUs where libtpu is installed."""

import json
import types

import numpy as np
import pytest
from helpers.runs import python
from helpers.tiny import TINY_DEMO

from perceiver_io import compile
from perceiver_io.distributed.chips import CHIPS
from perceiver_io.distributed.hlo import Collective
from perceiver_io.training.compilation import Compiled, roofline
from perceiver_io.training.weak_scaling import weak_scaling

PROGRAM = Compiled(
    name='train',
    chips=4,
    examples=16,
    seconds=1.0,
    arguments=10**9,
    temporaries=2 * 10**9,
    peak=3 * 10**9,
    flops=197e12,
    traffic=819 * 10**9,
    collectives=(
        Collective('all-reduce', 'f32', 10**9, 2),
        Collective('collective-permute', 'f32', 10**9, 1),
    ),
)


def test_the_bound_is_the_slower_of_arithmetic_and_memory_and_what_is_sent():
    bound = roofline(PROGRAM, CHIPS['v5e'], 'bfloat16')
    assert (bound.arithmetic, bound.memory) == (1.0, 1.0)
    assert bound.links == pytest.approx((2 * 2 + 1) * 1e9 / 200e9)
    assert bound.total == pytest.approx(1.025)
    assert roofline(PROGRAM, CHIPS['v5e'], 'float32').total == pytest.approx(6.025)


def test_the_largest_batch_fills_what_the_arguments_leave():
    # 0.95 x 16 GB less 1 GB, at 2 GB for 16 examples, in multiples of 4 chips.
    assert PROGRAM.largest_batch(CHIPS['v5e']) == 112


@pytest.mark.parametrize('context, reads, by', [(1, 8, 1), (2, 8, 1), (4, 16, 2)])
def test_what_the_hosts_of_a_pod_read(context, reads, by):
    """Four hosts of two chips each."""
    chips = [types.SimpleNamespace(process_index=index // 2) for index in range(8)]
    devices = np.array(chips).reshape(-1, context)
    mesh = types.SimpleNamespace(size=8, devices=devices, shape={'data': len(devices)})
    assert compile._hosts(mesh, 32) == (
        f'4 hosts of 2 chips; each reads {reads} of the 32 examples of a training batch, and each '
        f'example is read by {by}'
    )


def test_weak_scaling_adds_communication_and_keeps_the_examples_of_a_chip():
    """One second of arithmetic; 5 GB sent by each chip of a large ring, 25 ms."""
    alone, eight, many = weak_scaling(PROGRAM, CHIPS['v5e'], 'bfloat16', [1, 8, 256])
    assert (alone.chips, alone.examples, alone.seconds, alone.efficiency) == (1, 4, 1.0, 1.0)
    assert (eight.examples, many.examples) == (32, 1024)
    assert eight.seconds == pytest.approx(1 + 0.025 * 7 / 8)
    assert many.seconds == pytest.approx(1 + 0.025 * 255 / 256)
    assert many.efficiency == pytest.approx(1 / many.seconds)
    assert many.rate == pytest.approx(1024 / many.seconds)


@pytest.mark.slow
def test_a_step_for_four_chips(tmp_path):
    """Minutes: the gradient is summed in float32, once, and nothing is gathered."""
    pytest.importorskip('libtpu', reason='needs requirements-tpu.txt')
    keys = TINY_DEMO | {'model.classes': 6, 'model.dtype': 'bfloat16'}
    done = python(
        '-m',
        'perceiver_io.compile',
        '--topology=v5e:2x2',
        '--config=demo',
        '--programs=train',
        f'--json={tmp_path}/figures.json',
        *(f'--config.{name}={value}' for name, value in keys.items()),
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (program,) = json.loads((tmp_path / 'figures.json').read_text())['programs']
    found = program['collectives']
    assert {collective['kind'] for collective in found} == {'all-reduce'}
    assert {collective['times'] for collective in found} == {1}
    assert 'f32' in {collective['dtype'] for collective in found}
    assert not [collective for collective in found if 'bf16' in collective['dtype']]
    assert 0 < program['flops'] < 1e12 and program['traffic'] > program['arguments'] / 2
