"""Frozen config dataclasses: built from mappings, their values checked against the type hints."""

import dataclasses
import difflib
import functools
import numbers
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from perceiver_io.core.errors import UserError

Config = TypeVar('Config')


def build(cls: type[Config], values: Mapping[str, Any], prefix: str = '') -> Config:
    """A config dataclass, with the dataclasses in it, from nested mappings.

    Args:
        cls: the dataclass.
        values: by field; fields left out keep their defaults.
        prefix: what errors put before the name of a field, such as 'model.'.

    Raises:
        UserError: for an unknown key (names the nearest known one), a value of a wrong type, or
            values that do not fit each other.
    """
    return cls(**typed(cls, values, prefix))


def typed(cls: type, values: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
    """The arguments with which `build` calls the dataclass."""
    hints = _hints(cls)
    arguments = {}
    for key, value in values.items():
        name = f'{prefix}{key}'
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            hint = f'did you mean {prefix}{near[0]}?' if near else f'known are {", ".join(hints)}'
            raise UserError(f'the config has no key {name}: {hint}')
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise UserError(f'{name}={reprlib.repr(value)} must be a group of keys')
            arguments[key] = build(hints[key], value, f'{name}.')
        else:
            arguments[key] = as_type(value, hints[key], name)
    return arguments


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
        if value is None or (isinstance(value, tuple) and value == (None,)):
            return None  # ml_collections reads --config.KEY=None of a tuple as (None,)
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
