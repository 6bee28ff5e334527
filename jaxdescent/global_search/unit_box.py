"""A problem as a function of coordinates in which the box of its starts is [0, 1]^n.

Unlike `Problem.in_unit_box`, this flattens trees, keeps bounds that are infinite or wider than the
box of starts, and gives finite gradients.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdescent import validation
from jaxdescent.numerics import widest_float
from jaxdescent.problem import Problem


class Function(NamedTuple):
    """The function in units of the box.

    Attributes:
      value: Called with f[n]; returns f[].
      value_and_grad: Called with f[n]; returns f[] and f[n], finite gradients.
      lower, upper: f[n], bounds; they may be infinite.
    """

    value: Callable[[jax.Array], jax.Array]
    value_and_grad: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    lower: jax.Array
    upper: jax.Array


def check_box(problem: Problem) -> None:
    """Raises ValueError unless the box of starts has a finite positive width."""
    low, high = problem.start_box
    for a, b in zip(jax.tree.leaves(low), jax.tree.leaves(high), strict=True):
        if not (validation.is_concrete(a) and validation.is_concrete(b)):
            continue
        dtype = widest_float((a, b))
        with np.errstate(over="ignore", invalid="ignore"):
            width = np.asarray(b, dtype) - np.asarray(a, dtype)
        if not np.all(np.isfinite(width) & (width >= np.finfo(dtype).tiny)):
            raise ValueError(
                "lower and upper must be finite to draw starts from, and differ by a normal "
                f"{dtype} number, got {validation.shown(a)} and {validation.shown(b)}; give "
                "start_lower and start_upper"
            )


def in_unit_box(
    problem: Problem,
) -> tuple[Function, jax.Array, Callable[[jax.Array], Any]]:
    """Returns a function of f[n] whose box of starts is [0, 1]^n, its center and the map back."""
    low, high = problem.start_box
    dtype = widest_float(problem.lower)
    low, high = (jax.tree.map(lambda x: jnp.asarray(x, dtype), side) for side in (low, high))
    origin, to_tree = ravel_pytree(low)
    width = ravel_pytree(high)[0] - origin

    def to_params(u: jax.Array) -> Any:
        x = jax.tree.map(
            lambda x, like: x.astype(jnp.result_type(like)),
            to_tree(origin + u * width),
            problem.lower,
        )
        return problem.into_bounds(x)

    def value(u: jax.Array) -> jax.Array:
        return jnp.asarray(problem.value(to_params(u)), dtype)

    def value_and_grad(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, grads = problem.value_and_grad(to_params(u))
        grad = ravel_pytree(jax.tree.map(lambda x: x.astype(dtype), grads))[0] * width
        return jnp.asarray(value, dtype), jnp.where(jnp.isfinite(grad), grad, 0)

    if problem.bounds is None:
        lower, upper = (jnp.full_like(origin, bound) for bound in (-jnp.inf, jnp.inf))
    else:
        lower, upper = (
            (ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, dtype), side))[0] - origin) / width
            for side in (problem.lower, problem.upper)
        )
    return Function(value, value_and_grad, lower, upper), jnp.full_like(origin, 0.5), to_params
