"""Checks the values of frozen config dataclasses against their type hints."""

import dataclasses
import functools
import numbers
import reprlib
import types
import typing
from typing import Any

from perceiver_io.core.errors import UserError


def as_type(value: Any, hint: Any, name: str) -> Any:
    """Returns `value` as the type `hint`, with lists as tuples and integers as floats where due.

    Args:
        value: of a config's field.
        hint: bool, int, float, str, `Literal[...]`, `tuple[...]`, or one of these `| None`.
        name: what the error calls the value.

    Raises:
        UserError: the value is of another type, or is no member of the `Literal`.
    """
    if isinstance(hint, types.UnionType):  # only "something or None" occurs
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    shown = f'{name}={reprlib.repr(value)}'
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if not isinstance(value, str) or value not in choices:
            raise UserError(f'{shown} must be {" or ".join(map(repr, choices))}')
        return value
    if origin is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)
        if inner[-1] is not Ellipsis and len(inner) != len(value):
            raise UserError(f'{shown} must have {len(inner)} values')
        return tuple(as_type(item, inner[0], name) for item in value)
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if origin is float and is_number:
        return float(value)
    if origin is int and isinstance(value, numbers.Integral) and is_number:
        return int(value)
    if not isinstance(value, origin) or origin is int:
        raise UserError(f'{shown} must be of type {origin.__name__}')
    return value


def check_fields(config: Any, cls: type, at_least: dict[str, int]) -> None:
    """Checks the types and the lower limits of the fields that `cls` declares.

    Values of a near type (a list for a tuple, numpy's integers) are replaced by those of the right
    type: called in `__post_init__` of a frozen dataclass.

    Args:
        config: an instance of `cls` or of a class derived from it.
        cls: the dataclass whose fields are checked.
        at_least: the smallest value of some integer fields; 1 for the others.

    Raises:
        UserError: names the field and says what it must be.
    """
    hints = _hints(cls)
    for field in dataclasses.fields(cls):
        name = field.name
        value = as_type(getattr(config, name), hints[name], name)
        object.__setattr__(config, name, value)
        least = at_least.get(name, 1)
        if hints[name] is int and value < least:
            limit = 'not be negative' if least == 0 else f'be at least {least}'
            raise UserError(f'{name}={value} must {limit}')


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)
