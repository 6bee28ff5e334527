"""A function on a periodic grid over its box, in units of length that are the same on all sides.

    x = lower + length y,    V(y) = (f(x) - min f) / length,    y_i = width_i n / (N length)

for n = 0, ..., N - 1. The factor 1 / length keeps the slopes of f. A grid of N = 2^n points on
each of d sides is the state of d n qubits.
"""

import os
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.problem import Problem

LARGEST_DIMENSION = 3
"""A grid has N^d points."""


class Grid(NamedTuple):
    """A problem's function on the grid.

    Attributes:
      axes: f[d, N], the coordinates y along each side.
      sides: f[d], the sides of the box.
      potential: f[N, ..., N], the values V, at least 0.
      near_optimum: bool[N, ..., N], True at grid points that count as a success.
      length: f[], the unit of length.
      lowest: f[], the lowest value of f on the grid.
      num_nonfinite: i32[], number of grid points where f is not finite. The largest finite value
        stands there.
    """

    axes: jax.Array
    sides: jax.Array
    potential: jax.Array
    near_optimum: jax.Array
    length: jax.Array
    lowest: jax.Array
    num_nonfinite: jax.Array


def make_grid(
    problem: Problem, length: Any, radius: Any, gap: Any, *, points: int, by_gap: bool
) -> Grid:
    """Evaluates a problem on the grid.

    Args:
      problem: checked by `check_problem`.
      length: f[], the unit of length; 0 for the longest side of the box.
      radius: f[], a success is a point within this distance of an optimum, in units of length.
      gap: f[], a success is a value less than this above the lowest one of the grid, in the
        problem's units.
      points: N, the number of points on each side.
      by_gap: whether `gap` decides, and not `radius`.
    """
    lower, unravel = jax.flatten_util.ravel_pytree(problem.lower)
    upper, _ = jax.flatten_util.ravel_pytree(problem.upper)
    widths = upper - lower
    length = jnp.where(length > 0, length, jnp.max(widths)).astype(lower.dtype)
    sides = widths / length
    fractions = jnp.arange(points, dtype=lower.dtype) / points
    axes = sides[:, None] * fractions
    mesh = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1)
    flat = mesh.reshape(-1, lower.size)

    def value(y: jax.Array) -> jax.Array:
        return problem.value(unravel(lower + length * y))

    values = jax.vmap(value)(flat)
    is_finite = jnp.isfinite(values)
    highest = jnp.max(jnp.where(is_finite, values, -jnp.inf))
    values = jnp.where(is_finite, values, jnp.where(jnp.isfinite(highest), highest, 0))
    lowest = jnp.min(values)
    if by_gap:
        near = values - lowest < gap
    else:
        near = _within(flat, _optima(problem, flat, values, lower, length), radius)
    shape = mesh.shape[:-1]
    return Grid(
        axes=axes,
        sides=sides,
        potential=((values - lowest) / length).reshape(shape),
        near_optimum=near.reshape(shape),
        length=length,
        lowest=lowest,
        num_nonfinite=jnp.sum(~is_finite, dtype=jnp.int32),
    )


def _optima(
    problem: Problem, flat: jax.Array, values: jax.Array, lower: jax.Array, length: jax.Array
) -> jax.Array:
    """Returns the known optima in units of the grid, f[m, d], or the lowest grid point."""
    if problem.optima is None:
        return flat[jnp.argmin(values)][None]
    optima = jax.vmap(lambda x: jax.flatten_util.ravel_pytree(x)[0])(problem.optima)
    return (optima - lower) / length


def _within(flat: jax.Array, optima: jax.Array, radius: jax.Array) -> jax.Array:
    squares = jnp.sum((flat[:, None] - optima) ** 2, -1)
    return jnp.any(squares <= radius**2, axis=1)


def gradients(problem: Problem, grid: Grid) -> list[jax.Array]:
    """Returns the partial derivatives dV/dy = df/dx on the grid, f[N, ..., N] each.

    A gradient that is not finite is 0.
    """
    lower, unravel = jax.flatten_util.ravel_pytree(problem.lower)
    mesh = jnp.stack(jnp.meshgrid(*grid.axes, indexing="ij"), -1)

    def slope(y: jax.Array) -> jax.Array:
        grads = jax.grad(problem.value)(unravel(lower + grid.length * y))
        return jax.flatten_util.ravel_pytree(grads)[0]

    slopes = jax.vmap(slope)(mesh.reshape(-1, lower.size)).reshape(mesh.shape)
    slopes = jnp.where(jnp.isfinite(slopes), slopes, 0)
    return list(jnp.moveaxis(slopes, -1, 0))


def squared_frequencies(grid: Grid) -> jax.Array:
    """Returns k^2 of the plane waves of the grid, f[N, ..., N], in the order of the FFT."""
    points = grid.axes.shape[1]
    numbers = jnp.asarray(np.fft.fftfreq(points, 1 / points), grid.axes.dtype)
    squares = [(2 * jnp.pi * numbers / side) ** 2 for side in grid.sides]
    return sum(jnp.meshgrid(*squares, indexing="ij"), jnp.zeros_like(grid.potential))


def check_problem(problem: Problem, name: str) -> None:
    """Raises ValueError unless a problem has a finite box of at most three coordinates."""
    dimension = problem.dimension
    if not 1 <= dimension <= LARGEST_DIMENSION:
        raise ValueError(
            f"{name} must have 1 to {LARGEST_DIMENSION} coordinates, because the grid has N^d "
            f"points, got {dimension}; minimize it with jd.hybrid"
        )
    for side in ("lower", "upper"):
        for leaf in jax.tree.leaves(getattr(problem, side)):
            if validation.is_concrete(leaf):
                validation.finite_array(side, leaf)
    validation.check_scalar(name, jax.eval_shape(problem.value, problem.lower))


def power_of_two(name: str, value: Any, low: int) -> int:
    """Returns an int of at least `low` that is a power of two."""
    number = validation.integer_in(name, value, low)
    if number & (number - 1):
        below = 1 << (number.bit_length() - 1)
        raise ValueError(
            f"{name} must be a power of two, the number of states of a register of qubits, got "
            f"{number}; choose {below} or {2 * below}"
        )
    return number


def check_memory(name: str, points: int, dimension: int, bytes_per_point: int) -> None:
    """Raises ValueError if the arrays of a grid need more than the memory of the device."""
    available = _memory()
    needed = bytes_per_point * points**dimension
    if available is None or needed <= available:
        return
    largest = points
    while largest > 2 and bytes_per_point * largest**dimension > available:
        largest //= 2
    raise ValueError(
        f"{name} must be at most {largest} for {dimension} coordinates, got {points}, which needs "
        f"{needed / 1e9:.3g} GB of {available / 1e9:.3g} GB of memory; choose a smaller grid or "
        "fewer times"
    )


def _memory() -> int | None:
    """Returns the memory of the default device in bytes, or None where it is not known."""
    device = jax.devices()[0]
    statistics = device.memory_stats() if device.platform != "cpu" else None
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
