"""A small assembler of pickles, for what Python's own pickler would not write."""

import struct
from typing import NamedTuple


class Global(NamedTuple):
    module: str
    name: str


class Call(NamedTuple):
    function: object
    arguments: object


class Build(NamedTuple):
    target: object
    state: object


class Reference(NamedTuple):
    """A persistent id."""

    to: object


class Raw(NamedTuple):
    """Instructions as they stand."""

    code: bytes


class Parts(NamedTuple):
    """One after the other."""

    parts: tuple


class Touch:
    """A shell command that leaves a trace if it is ever run."""

    command = ''


def code_of(value) -> bytes:
    match value:
        case Raw(code):
            return code
        case Parts(parts):
            return b''.join(map(code_of, parts))
        case Touch():
            return code_of(value.command)
        case Global(module, name):
            return b'c' + f'{module}\n{name}\n'.encode()
        case Call(function, arguments):
            return code_of(function) + code_of(arguments) + b'R'
        case Build(target, state):
            return code_of(target) + code_of(state) + b'b'
        case Reference(to):
            return code_of(to) + b'Q'
        case bool() | None:
            return {True: b'\x88', False: b'\x89', None: b'N'}[value]
        case int():
            return b'\x8a\x08' + struct.pack('<q', value)
        case str():
            return b'X' + struct.pack('<I', len(value.encode())) + value.encode()
        case bytes():
            return b'B' + struct.pack('<I', len(value)) + value
        case tuple():
            return b'(' + b''.join(map(code_of, value)) + b't'
        case list():  # of pairs: a dict, which may have a key twice
            return b'}(' + b''.join(code_of(part) for pair in value for part in pair) + b'u'
        case dict():
            return code_of(list(value.items()))
    raise TypeError(value)


def pickled(value) -> bytes:
    return b'\x80\x04' + code_of(value) + b'.'
