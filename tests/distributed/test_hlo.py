"""Memory traffic and collectives, from texts small enough to count by hand, and FLOPs of loops."""

import jax
import jax.numpy as jnp
import pytest

from perceiver_io.core.errors import UsageError
from perceiver_io.distributed.chips import CHIPS, chip_of
from perceiver_io.distributed.flops import matrix_products
from perceiver_io.distributed.hlo import Collective, read_program

LOOP = """
HloModule step

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%body (state: (s32[], f32[10,10])) -> (s32[], f32[10,10]) {
  %state = (s32[], f32[10,10]{1,0:T(8,128)}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[10,10]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %near = f32[10,10]{1,0:T(8,128)S(1)} exponential(%x)
  %all = f32[10,10]{1,0:T(8,128)} all-reduce(%near), replica_groups={}, to_apply=%sum
  ROOT %next = (s32[], f32[10,10]{1,0:T(8,128)}) tuple(%i, %all)
}

%condition (state.1: (s32[], f32[10,10])) -> pred[] {
  %state.1 = (s32[], f32[10,10]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[]{:S(4)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (p: f32[10,10]) -> f32[10,10] {
  %p = f32[10,10]{1,0:T(8,128)} parameter(0)
  %zero = s32[] constant(0)
  %first = (s32[], f32[10,10]{1,0}) tuple(%zero, %p)
  %loop = (s32[], f32[10,10]{1,0}) while(%first), condition=%condition, body=%bodyTRIPS
  %start = (bf16[5,4]{1,0}, bf16[20,4]{1,0}) all-gather-start(%narrow), dimensions={0}
  %gathered = bf16[20,4]{1,0} all-gather-done(%start)
  ROOT %result = f32[10,10]{1,0:T(8,128)} get-tuple-element(%loop), index=1
}
"""


# Fusions that take a slice of an array: %take of a nested fusion, %put in place. %sum_all reads the
# array whole besides.
SLICES = """
HloModule slices

%inner (a.0: f32[50,10], i.0: s32[]) -> f32[1,10] {
  %a.0 = f32[50,10]{1,0} parameter(0)
  %i.0 = s32[] parameter(1)
  %view = f32[50,10]{1,0} bitcast(%a.0)
  ROOT %part = f32[1,10]{1,0} dynamic-slice(%view, %i.0, %i.0), dynamic_slice_sizes={1,10}
}

%take (i.1: s32[], a.1: f32[50,10]) -> f32[1,10] {
  %i.1 = s32[] parameter(0)
  %a.1 = f32[50,10]{1,0} parameter(1)
  %part.1 = f32[1,10]{1,0} fusion(%a.1, %i.1), kind=kLoop, calls=%inner
  ROOT %twice = f32[1,10]{1,0} add(%part.1, %part.1)
}

%put (a.2: f32[50,10], row: f32[1,10], i.2: s32[]) -> f32[50,10] {
  %a.2 = f32[50,10]{1,0} parameter(0)
  %row = f32[1,10]{1,0} parameter(1)
  %i.2 = s32[] parameter(2)
  %more = f32[1,10]{1,0} negate(%row)
  ROOT %all = f32[50,10]{1,0} dynamic-update-slice(%a.2, %more, %i.2, %i.2)
}

%sum_all (a.3: f32[50,10], i.3: s32[]) -> f32[1,10] {
  %a.3 = f32[50,10]{1,0} parameter(0)
  %i.3 = s32[] parameter(1)
  %part.3 = f32[1,10]{1,0} dynamic-slice(%a.3, %i.3, %i.3), dynamic_slice_sizes={1,10}
  %whole = f32[1,10]{1,0} reduce(%a.3), dimensions={0}
  ROOT %both = f32[1,10]{1,0} add(%part.3, %whole)
}

ENTRY %main (x: f32[50,10], i: s32[]) -> f32[50,10] {
  %x = f32[50,10]{1,0} parameter(0)
  %i = s32[]{:S(2)} parameter(1)
  FUSION
}
"""


@pytest.mark.parametrize(
    ('fusion', 'traffic'),
    [
        ('%y = f32[1,10]{1,0} fusion(%i, %x), kind=kLoop, calls=%take', 40 + 40),
        ('%y = f32[1,10]{1,0:S(1)} fusion(%i, %x), kind=kLoop, calls=%take', 40),
        ('%y = f32[1,10]{1,0} fusion(%x, %i), kind=kLoop, calls=%sum_all', 2000 + 40),
        (
            '%r = f32[1,10]{1,0:S(1)} constant({...})\n'
            '  %y = f32[50,10]{1,0} fusion(%x, %r, %i), kind=kLoop, calls=%put',
            40,
        ),
        (
            '%y = ((f32[50,10]{1,0}), f32[5,10]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), '
            'slice={[0:5], [0:10]}',
            200,
        ),
    ],
    ids=['slice', 'slice onto the chip', 'whole', 'in place', 'prefetch'],
)
def test_a_slice_counts_as_such(fusion, traffic):
    assert read_program(SLICES.replace('FUSION', fusion)).traffic == traffic


@pytest.mark.parametrize(
    ('trips', 'count'), [('', 7), (', backend_config={"known_trip_count":{"n":"5"}}', 5)]
)
def test_a_loop_counts_as_often_as_it_runs(trips, count):
    program = read_program(LOOP.replace('TRIPS', trips))
    reduce = Collective('all-reduce', 'f32', 400, count)
    gather = Collective('all-gather', 'bf16', 160, 1)
    assert set(program.collectives) == {reduce, gather}
    # A round reads x (400) and writes the sum (400): what is between lies on the chip. The gather
    # names 40 bytes that it reads and 160 that it writes.
    assert program.traffic == count * 800 + 200


def test_a_collective_of_several_arrays_tells_all_types():
    arrays = '(bf16[5]{0}, f32[4,4]{1,0}, f32[3]{0})'
    program = read_program(
        f'ENTRY %main (x: f32[3]) -> {arrays} {{\n'
        f'  ROOT %sums = {arrays} all-reduce(%a, %b, %x), to_apply=%sum\n'
        '}\n'
    )
    assert program.collectives == (Collective('all-reduce', 'f32+bf16', 76 + 10, 1),)


def test_what_a_compiler_here_wrote_is_read():
    def scan(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=9)[0]

    x = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    once = read_program(jax.jit(lambda x, w: jnp.tanh(x @ w)).lower(x, x).compile().as_text())
    program = read_program(jax.jit(scan).lower(x, x).compile().as_text())
    assert once.traffic >= 3 * 64 * 64 * 4
    assert 9 * 3 * 64 * 64 * 4 <= program.traffic <= 13 * once.traffic
    assert program.collectives == ()


def test_products_of_scans_and_gradients_are_counted():
    def loss(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=9)[0].sum()

    x, w = jnp.ones((5, 7)), jnp.ones((7, 7))
    assert matrix_products(loss, x, w) == 9 * 2 * 5 * 7 * 7
    assert matrix_products(jax.grad(loss, argnums=1), x, w) >= 3 * 9 * 2 * 5 * 7 * 7 - 2 * 5 * 7 * 7


def test_unknown_chips_are_refused():
    assert chip_of('v5e:16x16') == CHIPS['v5e']
    with pytest.raises(UsageError, match='one of v4, v5e'):
        chip_of('h100:8')
