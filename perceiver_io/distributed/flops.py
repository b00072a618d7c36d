"""The arithmetic of a function, from its jaxpr, with the lengths of loops counted."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def matrix_products(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of the matrix products of a call, a multiplication and an addition each.

    The body of a scan counts as often as it runs, which `cost_analysis` does not do. Everything
    besides matrix products is left out.

    Args:
        function: the function.
        *arguments: arrays, or `jax.ShapeDtypeStruct`.
    """
    return _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products(jaxpr: core.Jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        times = 1
        if equation.primitive.name == 'scan':
            times = equation.params['length']
        elif equation.primitive.name == 'dot_general':
            (contracted, _), _ = equation.params['dimension_numbers']
            operand, result = (_shape(x) for x in (equation.invars[0], equation.outvars[0]))
            total += 2 * math.prod(operand[axis] for axis in contracted) * math.prod(result)
        total += times * sum(_products(inner) for inner in _inner(equation))
    return total


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _inner(equation: core.JaxprEqn) -> Iterator[core.Jaxpr]:
    for value in equation.params.values():
        for candidate in value if isinstance(value, tuple | list) else (value,):
            inner: Any = getattr(candidate, 'jaxpr', candidate)
            if hasattr(inner, 'eqns'):
                yield inner
