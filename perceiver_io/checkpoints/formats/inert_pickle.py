"""Reads the data in a pickle without running it.

A pickle is a program for a stack machine, and can call any function by name. Python's unpickler can
be restricted to some names (`Unpickler.find_class`), but it still calls what it admits, sets
attributes on the results, and allocates what a few bytes ask for. The machine here calls nothing
that a file names. It implements the few instructions that writers of arrays use, and looks names up
in a table of its caller. Everything else is an error that names it.
"""

import dataclasses
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from perceiver_io.checkpoints.formats.checks import quoted
from perceiver_io.core.errors import InvalidFileError

_DAMAGED = 'it is damaged, or not a pickle of arrays'
_LONGEST = 1_000_000  # instructions; an array takes about forty
_MARKS = 100  # open marks; each nested dict or tuple has one

Call = Callable[[tuple], Any]


class DisallowedGlobal(InvalidFileError):
    """A pickle names a function or class that its reader does not know."""


@dataclasses.dataclass(frozen=True)
class Name:
    """The name of a function or class. Nothing is imported."""

    full: str


class Built:
    """An object of the caller's table whose state a pickle can set (the instruction BUILD)."""

    def build(self, state: Any) -> None:
        """Sets the state; raises InvalidFileError if it is damaged."""
        raise NotImplementedError


class Dict(dict, Built):
    """A dict under any of its names. Attributes (torch sets `_metadata`) are ignored."""

    def build(self, state: Any) -> None:
        pass


def read(data: bytes, calls: Mapping[str, Call], persistent: Call | None = None) -> Any:
    """The object in a pickle.

    Args:
        data: the pickle, with nothing after it.
        calls: 'module.name' to the function that is called in its place. It receives the tuple of
            arguments, which can be anything, and raises InvalidFileError for wrong ones.
        persistent: the same for references to data outside the pickle; None if there are none.

    Raises:
        DisallowedGlobal: the pickle names something else.
        InvalidFileError: the pickle is damaged.
    """
    machine, end = _Machine(calls, persistent), 0
    try:
        for count, (instruction, argument, position) in enumerate(pickletools.genops(data)):
            if count == _LONGEST:
                raise InvalidFileError(
                    f'its pickle has more than {_LONGEST:,} instructions, and weights need few'
                )
            machine.step(instruction.name, argument)
            end = (position or 0) + 1
    except InvalidFileError:
        raise
    except ValueError as error:  # of pickletools: truncated, or not an instruction
        raise InvalidFileError(_DAMAGED) from error
    if end != len(data):
        raise InvalidFileError(f'{len(data) - end} bytes follow the end of its pickle')
    return machine.result


class _Machine:
    """The stack, the marks in it, and the memo."""

    def __init__(self, calls: Mapping[str, Call], persistent: Call | None):
        self.result: Any = None
        self._calls = calls
        self._persistent = persistent
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []  # the stacks under each mark
        self._memo: dict[Any, Any] = {}

    def step(self, instruction: str, argument: Any) -> None:
        if instruction in _VALUES:
            self._stack.append(argument)
        elif instruction in _CONSTANTS:
            self._stack.append(_CONSTANTS[instruction]())
        elif instruction in _TUPLES:
            items = [self._pop() for _ in range(_TUPLES[instruction])]
            self._stack.append(tuple(reversed(items)))
        elif instruction in _PUTS:
            self._memo[len(self._memo) if argument is None else argument] = self._top()
        elif instruction in _GETS:
            if argument not in self._memo:
                raise InvalidFileError(_DAMAGED)
            self._stack.append(self._memo[argument])
        elif instruction in _INSTRUCTIONS:
            _INSTRUCTIONS[instruction](self, argument)
        elif instruction not in ('PROTO', 'FRAME'):
            raise InvalidFileError(
                f'its pickle has the instruction {instruction}, which no array needs'
            )

    def _top(self, kind: type = object) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise InvalidFileError(_DAMAGED)
        return self._stack[-1]

    def _pop(self, kind: type = object) -> Any:
        self._top(kind)
        return self._stack.pop()

    def _pop_mark(self) -> list:
        """Removes and returns what is above the last mark."""
        if not self._below:
            raise InvalidFileError(_DAMAGED)
        items, self._stack = self._stack, self._below.pop()
        return items

    def _mark(self, _: Any) -> None:
        if len(self._below) == _MARKS:
            raise InvalidFileError(_DAMAGED)
        self._below.append(self._stack)
        self._stack = []

    def _tuple(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set(key, value)

    def _dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(Dict())
        self._update(items)

    def _set_items(self, _: Any) -> None:
        self._update(self._pop_mark())

    def _update(self, items: list) -> None:
        if len(items) % 2:
            raise InvalidFileError(_DAMAGED)
        for key, value in zip(items[::2], items[1::2]):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        target = self._top(dict)
        if type(key) is not str:  # hashing nested tuples can take exponential time
            raise InvalidFileError('a key in it is not a string')
        if key in target:
            raise InvalidFileError(f'it holds {quoted(key)} twice')
        target[key] = value

    def _global(self, argument: str) -> None:
        self._name(*argument.split(' ', 1))  # pickletools joins the two lines so

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(str), self._pop(str)
        self._name(module, name)

    def _name(self, module: str, name: str) -> None:
        full = f'{module}.{name}'
        if full not in self._calls:
            raise DisallowedGlobal(
                f'its pickle names {quoted(full)}, which reading arrays does not need; it '
                'could do anything, so the file was not read'
            )
        self._stack.append(Name(full))

    def _reduce(self, _: Any) -> None:
        arguments, name = self._pop(tuple), self._pop(Name)
        self._stack.append(self._calls[name.full](arguments))

    def _build(self, _: Any) -> None:
        state = self._pop()
        self._top(Built).build(state)

    def _persistent_id(self, _: Any) -> None:
        reference = self._pop(tuple)
        if self._persistent is None:
            raise InvalidFileError('its pickle refers to data outside it')
        self._stack.append(self._persistent(reference))

    def _stop(self, _: Any) -> None:
        self.result = self._pop()
        if self._stack or self._below:
            raise InvalidFileError(_DAMAGED)


_VALUES = {
    'INT',
    'BININT',
    'BININT1',
    'BININT2',
    'LONG',
    'LONG1',
    'UNICODE',
    'SHORT_BINUNICODE',
    'BINUNICODE',
    'BINUNICODE8',
    'SHORT_BINBYTES',
    'BINBYTES',
    'BINBYTES8',
    'BYTEARRAY8',
}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_TUPLE': tuple,
    'EMPTY_DICT': Dict,
}
_TUPLES = {'TUPLE1': 1, 'TUPLE2': 2, 'TUPLE3': 3}
_PUTS = {'MEMOIZE', 'PUT', 'BINPUT', 'LONG_BINPUT'}
_GETS = {'GET', 'BINGET', 'LONG_BINGET'}
_INSTRUCTIONS = {
    'MARK': _Machine._mark,
    'TUPLE': _Machine._tuple,
    'DICT': _Machine._dict,
    'SETITEM': _Machine._set_item,
    'SETITEMS': _Machine._set_items,
    'GLOBAL': _Machine._global,
    'STACK_GLOBAL': _Machine._stack_global,
    'REDUCE': _Machine._reduce,
    'BUILD': _Machine._build,
    'BINPERSID': _Machine._persistent_id,
    'STOP': _Machine._stop,
}
