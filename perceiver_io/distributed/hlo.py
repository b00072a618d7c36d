"""What a compiled program moves, from the text of its HLO: memory traffic and collectives.

`cost_analysis` of a compiled program counts the body of a loop once, and traffic inside the chip
as traffic of its memory. Here the body of a loop counts as often as it runs, and arrays that the
layout places on the chip (memory space `S(1)` and above) do not count.

The traffic is an upper bound: every instruction is charged its operands and results in whole,
unless it reads no more than slices of an operand, or writes a slice in place. That holds inside of
fusions too: the body of a loop often takes its part of an array in one.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

_BYTES = {
    **dict.fromkeys(('pred', 's8', 'u8'), 1),
    **dict.fromkeys(('bf16', 'f16', 's16', 'u16'), 2),
    **dict.fromkeys(('f32', 's32', 'u32'), 4),
    **dict.fromkeys(('f64', 's64', 'u64', 'c64'), 8),
}
_ARRAY = re.compile(rf'\b({"|".join(_BYTES)})\[([\d,]*)\](\{{[^}}]*\}})?')
_HEADER = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
_NAME = re.compile(r'^\s+(?:ROOT )?%?([\w.\-]+) = ')
_OPCODE = re.compile(r'\s*([a-z][\w\-]*)\(')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_SLICES = ('slice', 'dynamic-slice', 'gather')
_COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')

# Instructions that move nothing themselves.
_FREE = {
    'parameter',
    'constant',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'after-all',
    'partition-id',
    'replica-id',
    'opt-barrier',
}


@dataclasses.dataclass(frozen=True)
class Collective:
    """A communication between devices.

    Attributes:
        kind: such as 'all-reduce'.
        dtype: of the arrays; of several, joined by '+', that with the most bytes first.
        bytes: of the result on one device.
        times: how often a run of the program performs it.
    """

    kind: str
    dtype: str
    bytes: int
    times: int


@dataclasses.dataclass(frozen=True)
class Program:
    """What one device does in a run of a compiled program.

    Attributes:
        traffic: bytes read from and written to its memory; an upper bound.
        collectives: in the order of the text.
    """

    traffic: int
    collectives: tuple[Collective, ...]


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool = False


@dataclasses.dataclass(frozen=True)
class _Array:
    dtype: str
    bytes: int
    in_memory: bool


_Computations = dict[str, list[_Instruction]]


def read_program(text: str) -> Program:
    """The program of `compiled.as_text()`, where `compiled` is a `jax.stages.Compiled`."""
    computations, entry = _computations(text)
    collectives: list[Collective] = []

    def walk(name: str, times: int) -> int:
        shapes = {instruction.name: instruction.shape for instruction in computations[name]}
        total = 0
        for instruction in computations[name]:
            opcode, attributes = instruction.opcode, instruction.attributes
            if opcode == 'while':
                body = _called(attributes, 'body')
                total += walk(body, times * _trips(attributes, computations))
            elif opcode == 'conditional':
                branches = re.findall(r'%([\w.\-]+)', attributes.partition('branch')[2])
                total += max(
                    (walk(branch, times) for branch in branches if branch in computations),
                    default=0,
                )
            elif opcode in ('call', 'async-start'):
                called = _called(attributes, 'calls') or _called(attributes, 'to_apply')
                total += walk(called, times)
            elif not (opcode in _FREE or opcode.endswith(('-done', '-update'))):
                found = _collective(instruction, times)
                if found:
                    collectives.append(found)
                elif opcode == 'fusion':  # a collective can be fused with what follows it
                    for inner in computations.get(_called(attributes, 'calls'), []):
                        found = _collective(inner, times)
                        if found:
                            collectives.append(found)
                total += times * _traffic(instruction, shapes, computations)
        return total

    return Program(walk(entry, 1), tuple(collectives))


def _collective(instruction: _Instruction, times: int) -> Collective | None:
    kind = instruction.opcode.removesuffix('-start')
    if kind not in _COLLECTIVES:
        return None
    arrays = list(_arrays(instruction.shape))
    largest = max(arrays, key=lambda array: array.bytes)
    # The result of `all-gather-start` and `collective-permute-start` names the operand too.
    tells_operand = instruction.opcode.endswith('-start') and kind != 'all-reduce'
    size = largest.bytes if tells_operand else sum(array.bytes for array in arrays)
    bytes_of: collections.Counter[str] = collections.Counter()
    for array in arrays:
        bytes_of[array.dtype] += array.bytes
    dtypes = '+'.join(dtype for dtype, _ in bytes_of.most_common())
    return Collective(kind, dtypes, size, times)


def _traffic(instruction: _Instruction, shapes: dict[str, str], computations: _Computations) -> int:
    """Bytes of HBM that one run of an instruction reads and writes."""
    written = _in_memory(instruction.shape)
    if instruction.opcode == 'slice-start':  # its result names the whole operand
        whole, part, *_ = _arrays(instruction.shape)
        return part.bytes * (whole.in_memory + part.in_memory)
    if instruction.opcode.endswith('-start'):  # its result names what is read and what is written
        return written
    if instruction.opcode == 'fusion':
        return _traffic_of_fusion(instruction, shapes, computations)
    read = [
        _in_memory(shapes[operand])
        for operand in instruction.operands
        if not shapes.get(operand, '(').startswith('(')
    ]
    if instruction.opcode in _SLICES:
        return 2 * written
    if instruction.opcode == 'dynamic-update-slice':  # in place
        return 2 * min([written, *read[1:2]])
    return written + sum(read)


def _traffic_of_fusion(
    instruction: _Instruction, shapes: dict[str, str], computations: _Computations
) -> int:
    called = computations.get(_called(instruction.attributes, 'calls'), [])
    read = 0
    for number, operand in enumerate(instruction.operands):
        whole = _in_memory(shapes.get(operand, ''))
        part = _read_of(_parameter(called, number), called, computations)
        read += whole if part is None else min(whole, part)
    written = _in_memory(instruction.shape)
    part = _written_by(called)
    return read + (written if part is None else min(written, part))


def _parameter(called: list[_Instruction], number: int) -> str:
    """The name that a computation has for an argument."""
    for instruction in called:
        if instruction.opcode == 'parameter' and instruction.operands == (str(number),):
            return instruction.name
    return ''


def _read_of(name: str, called: list[_Instruction], computations: _Computations) -> int | None:
    """Bytes that a fused computation reads of an array; None if it may be all of them."""
    total = 0
    for user in called:
        if name not in user.operands:
            continue
        part: int | None = None
        is_first_only = user.operands.index(name) == 0 and name not in user.operands[1:]
        if user.opcode == 'bitcast':
            part = _read_of(user.name, called, computations)
        elif user.opcode in _SLICES and is_first_only:
            part = sum(array.bytes for array in _arrays(user.shape))
        elif user.opcode == 'dynamic-update-slice' and is_first_only and user.is_root:
            part = 0  # in place
        elif user.opcode == 'fusion':
            inner = computations.get(_called(user.attributes, 'calls'), [])
            parts = [
                _read_of(_parameter(inner, number), inner, computations)
                for number, operand in enumerate(user.operands)
                if operand == name
            ]
            part = None if None in parts else sum(each for each in parts if each is not None)
        if part is None:
            return None
        total += part
    return total


def _written_by(called: list[_Instruction]) -> int | None:
    """Bytes that a fused computation writes in place; None if it writes its whole result."""
    shapes = {instruction.name: instruction.shape for instruction in called}
    for root in called:
        if root.is_root and root.opcode == 'dynamic-update-slice':
            return sum(array.bytes for array in _arrays(shapes.get(root.operands[1], '')))
    return None


def _in_memory(shape: str) -> int:
    return sum(array.bytes for array in _arrays(shape) if array.in_memory)


def _arrays(shape: str) -> Iterator[_Array]:
    for dtype, sizes, layout in _ARRAY.findall(shape):
        size = _BYTES[dtype] * math.prod(int(size) for size in sizes.split(',') if size)
        yield _Array(dtype, size, not re.search(r'S\([1-9]\)', layout))


def _trips(attributes: str, computations: _Computations) -> int:
    """How often a loop runs: as the compiler says, or the constant that ends it."""
    known = _TRIPS.search(attributes)
    if known:
        return int(known[1])
    limits = []
    for instruction in computations.get(_called(attributes, 'condition'), []):
        inner = computations.get(_called(instruction.attributes, 'calls'), [])
        for candidate in (instruction, *inner):
            if candidate.opcode == 'constant' and candidate.shape.startswith('s32[]'):
                limits += [int(limit) for limit in candidate.operands]
    return max(limits, default=1)


def _called(attributes: str, key: str) -> str:
    found = re.search(rf'\b{key}=%?([\w.\-]+)', attributes)
    return found[1] if found else ''


def _computations(text: str) -> tuple[_Computations, str]:
    """The instructions of each computation, and the name of the first that runs."""
    computations: _Computations = {}
    entry = current = ''
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = header[2]
            computations[current] = []
            entry = current if header[1] else entry
        elif current:
            instruction = _parse(line)
            if instruction:
                computations[current].append(instruction)
    return computations, entry


def _parse(line: str) -> _Instruction | None:
    """An instruction from its line `name = shape opcode(operands), attributes`."""
    name = _NAME.match(line)
    if not name:
        return None
    rest = line[name.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
    shape, rest = rest[:end], rest[end:]
    opcode = _OPCODE.match(rest)
    if not opcode:
        return None
    close = _closing(rest, opcode.end() - 1)
    inside = rest[opcode.end() : close]
    operands = tuple(re.findall(r'%([\w.\-]+)', inside))
    if opcode[1] in ('constant', 'parameter'):
        operands = tuple(re.findall(r'^\d+$', inside))
    is_root = line.lstrip().startswith('ROOT ')
    return _Instruction(name[1], shape, opcode[1], operands, rest[close + 1 :], is_root)


def _closing(text: str, start: int) -> int:
    """The index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(text)):
        depth += {'(': 1, ')': -1}.get(text[index], 0)
        if depth == 0:
            return index
    return len(text)
