"""Evaluates a jaxpr so that singular slopes count as zero where they arise.

An Adam whose second moment v is exactly zero at some coordinate takes sqrt(0) there: the
update is finite, its derivative is infinity times zero, and one NaN spoils a sum over
all coordinates, or, where the optimizer itself sums, every coordinate of its update.
So sqrt and its like get the convention that relu has at zero: a slope that is not finite
is a slope of zero. Values are unchanged; both modes of differentiation work as before.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend import core

from jaxdescent.towers.replay import dataflow

_SINGULAR = ("sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "div", "log", "log1p")


def evaluate(jaxpr: core.ClosedJaxpr, *args: jax.Array, by_reciprocals: bool = False) -> list[Any]:
    """The outputs of a jaxpr at `args`, one array for each of its inputs.

    Slopes inside `scan` and `while` are left as they are. With `by_reciprocals` x / y is
    computed as x (1 / y), which costs its derivatives no second division.

    Example:
      >>> jaxpr = jax.make_jaxpr(jnp.sqrt)(0.0)
      >>> float(jax.grad(jnp.sqrt)(0.0)), float(jax.grad(lambda x: evaluate(jaxpr, x)[0])(0.0))
      (inf, 0.0)
    """
    values: dict[Any, Any] = {}

    def value_of(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    values.update(zip(jaxpr.jaxpr.constvars, jaxpr.consts, strict=True))
    values.update(zip(jaxpr.jaxpr.invars, args, strict=True))
    for eqn in jaxpr.jaxpr.eqns:
        results = _apply(eqn, [value_of(atom) for atom in eqn.invars], by_reciprocals)
        values.update(zip(eqn.outvars, results, strict=True))
    return [value_of(atom) for atom in jaxpr.jaxpr.outvars]


def _apply(eqn: core.JaxprEqn, args: list[Any], by_reciprocals: bool) -> Sequence[Any]:
    name = eqn.primitive.name
    inside = partial(evaluate, by_reciprocals=by_reciprocals)
    if name == "div" and by_reciprocals:
        return [_times_reciprocal(*args)]
    if name in _SINGULAR:
        return [_with_safe_slope(eqn)(*args)]
    if name == "cond":
        index, *operands = args
        return jax.lax.switch(
            index, [partial(inside, b) for b in eqn.params["branches"]], *operands
        )
    if (inner := dataflow.called(eqn)) is not None:
        return inside(inner, *args)
    return dataflow.bind(eqn, args)


def _with_safe_slope(eqn: core.JaxprEqn) -> Any:
    """An elementwise primitive whose slopes count as zero where they are not finite."""

    def plain(*args: Any) -> Any:
        return eqn.primitive.bind(*args, **eqn.params)

    safe = jax.custom_jvp(plain)

    def jvp(args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        value = plain(*args)
        change = jnp.zeros_like(value)
        for i, tangent in enumerate(tangents):
            if isinstance(tangent, SymbolicZero):
                continue
            of_one = lambda x, i=i: plain(*args[:i], x, *args[i + 1 :])
            _, slope = jax.jvp(of_one, (args[i],), (jnp.ones_like(args[i]),))
            change += _finite_or_zero(slope) * tangent
        return value, change

    safe.defjvp(jvp, symbolic_zeros=True)
    return safe


@jax.custom_jvp
def _times_reciprocal(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * (1 / y)


@partial(_times_reciprocal.defjvp, symbolic_zeros=True)
def _times_reciprocal_jvp(args: Any, tangents: Any) -> tuple[Any, Any]:
    x, y = args
    dx, dy = tangents
    slope = 1 / y
    value = x * slope
    change = jnp.zeros_like(value)
    if not isinstance(dx, SymbolicZero):
        change += _finite_or_zero(slope) * dx
    if isinstance(dy, SymbolicZero):
        return value, change
    if not y.shape:  # one number for all coordinates
        slope = _finite_or_zero(slope)
        return value, change - (x * slope) * (slope * dy)
    return value, change - _finite_or_zero(value * slope) * dy


def _finite_or_zero(slope: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(slope), slope, jnp.zeros_like(slope))
