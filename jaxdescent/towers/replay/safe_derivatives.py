"""Evaluates a jaxpr so that singular slopes count as zero.

Where Adam's second moment v is exactly zero, Adam computes sqrt(0). The update is finite, but its
derivative is infinity times zero, and one NaN makes a sum over all coordinates NaN; if the
optimizer itself computes such a sum, every coordinate of the update is affected. So sqrt and other
singular functions follow the convention of relu at zero: a non-finite slope counts as zero. Values
are unchanged, and both modes of differentiation work.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from jaxdescent import jax_internals as core
from jaxdescent.towers.replay import dataflow

_SINGULAR = ("sqrt", "rsqrt", "cbrt", "pow", "integer_pow", "div", "log", "log1p")


def evaluate(jaxpr: core.ClosedJaxpr, *args: jax.Array, by_reciprocals: bool = False) -> list[Any]:
    """Returns the outputs of a jaxpr at `args`, with safe derivatives.

    Slopes inside `scan` and `while` are not changed. With `by_reciprocals` x / y is computed as
    x (1 / y), whose derivatives need no second division.

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
    return core.bind(eqn, args)


def _with_safe_slope(eqn: core.JaxprEqn) -> Any:
    """Returns an elementwise primitive whose non-finite slopes count as zero."""

    def plain(*args: Any) -> Any:
        return eqn.primitive.bind(*args, **eqn.params)

    safe = jax.custom_jvp(plain)

    def jvp(args: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        value = plain(*args)
        change = jnp.zeros_like(value)
        for i, tangent in enumerate(tangents):
            if isinstance(tangent, SymbolicZero):
                continue

            def at_operand(x: Any, i: int = i) -> Any:
                return plain(*args[:i], x, *args[i + 1 :])

            _, slope = jax.jvp(at_operand, (args[i],), (jnp.ones_like(args[i]),))
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
    if not y.shape:  # a scalar
        slope = _finite_or_zero(slope)
        return value, change - (x * slope) * (slope * dy)
    return value, change - _finite_or_zero(value * slope) * dy


def _finite_or_zero(slope: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(slope), slope, jnp.zeros_like(slope))
