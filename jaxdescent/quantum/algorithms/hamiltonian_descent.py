"""Quantum Hamiltonian descent: a wave that settles in the minimum of a function.

    i dpsi/dt = [a(t) (-Laplacian / 2) + b(t) f + (c / 2) {grad f, -i grad}] psi

At first the kinetic term is large, and the wave explores the box. Later the potential is large, and
the wave concentrates where f is low. A measurement at the end gives a point with probability
|psi|^2. With c < 0 the last term also transports |psi|^2 along c grad f, as gradient descent does.

One step of length h, from time t, is a product of unitary operators:

    psi <- exp(-i h b(t) f) psi              in the points of the grid,
    psi <- exp(-i h a(t + h/2) k^2 / 2) psi  in its plane waves, by the FFT,
    psi <- exp(-(h c / 2) {grad f, grad}) psi   along one side of the box after another.

The last is an orthogonal matrix for each line of the grid, computed once (`transport.py`), between
two kinetic steps of half the length. Potential steps at t, of half the length at t = 0, and kinetic
steps at t + h/2 are a leapfrog: the error of |psi|^2 is of order h^2. This is a simulation, which
evaluates f at all N^d points of the grid.

Sources: J. Leng, E. Hickman, J. Li, X. Wu 2023, arXiv:2303.01471; with the gradient term J. Leng,
B. Shi 2025, arXiv:2505.14670.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from jaxdescent import numerics, validation
from jaxdescent.problem import Problem, in_bounds
from jaxdescent.programs import compiled
from jaxdescent.quantum.algorithms import transport
from jaxdescent.quantum.algorithms.grid import (
    Grid,
    check_memory,
    check_problem,
    gradients,
    make_grid,
    power_of_two,
    squared_frequencies,
)

LARGEST_STEPS = 10**9
"""Steps of one run; their number is an int32."""

EXPONENTIAL = 10
"""Matrices that the matrix exponential of one side needs at the same time, about."""


class Schedule(NamedTuple):
    """The weights of the terms of the Hamiltonian.

    Attributes:
      kinetic: called with the time, f[]; returns a(t).
      potential: called with the time, f[]; returns b(t).
      gradient: c, a number; 0 leaves the gradient term out.
    """

    kinetic: Callable[[jax.Array], jax.Array]
    potential: Callable[[jax.Array], jax.Array]
    gradient: float = 0.0


def cubic_schedule() -> Schedule:
    """Returns a = 2 / (1e-3 + t^3) and b = 2 t^3, the published schedule of QHD.

    Source: J. Leng et al. 2023, arXiv:2303.01471.

    Example:
      >>> float(cubic_schedule().potential(2.0))
      16.0
    """
    return Schedule(_cubic_kinetic, _cubic_potential)


def _cubic_kinetic(t: jax.Array) -> jax.Array:
    return 2 / (1e-3 + t**3)


def _cubic_potential(t: jax.Array) -> jax.Array:
    return 2 * t**3


def gradient_schedule(*, gradient: float = -0.05, gamma: float = 5.0) -> Schedule:
    """Returns a = 2 / t^3, b = t^3 + gamma t^2 and a gradient term, the published gradient QHD.

    Args:
      gradient: c; negative values transport the wave downhill.
      gamma: weight of t^2 in the potential.

    Raises:
      ValueError: an argument is not finite.

    Source: J. Leng, B. Shi 2025, arXiv:2505.14670.

    Example:
      >>> schedule = gradient_schedule()
      >>> float(schedule.potential(2.0)), schedule.gradient
      (28.0, -0.05)
    """
    gradient = validation.number_between("gradient", gradient, -np.inf, np.inf)
    gamma = validation.number_between("gamma", gamma, -np.inf, np.inf)

    def kinetic(t: jax.Array) -> jax.Array:
        return 2 / t**3

    def potential(t: jax.Array) -> jax.Array:
        return t**3 + gamma * t**2

    return Schedule(kinetic, potential, gradient)


class HamiltonianDescentResult(NamedTuple):
    """Result of `hamiltonian_descent`.

    Attributes:
      params: the most probable grid point at the end, a tree like the box.
      value: f[], the function's value there.
      times: f[m], the times of the records below, rounded to steps.
      distribution: f[m, N, ..., N], the probability of each grid point; first index, first
        coordinate.
      success: f[m], the probability of a success.
      mean_value: f[m], the mean value of the function.
      mean_position: f[m, d], the mean position, in the problem's coordinates.
      norm: f[m], the norm of the wave, 1 except for rounding.
      num_nonfinite: i32[], number of grid points where the function is not finite. The largest
        finite value stands there.
      function_values: number of function values that the simulation evaluates, N^d.
    """

    params: Any
    value: jax.Array
    times: jax.Array
    distribution: jax.Array
    success: jax.Array
    mean_value: jax.Array
    mean_position: jax.Array
    norm: jax.Array
    num_nonfinite: jax.Array
    function_values: int


def hamiltonian_descent(
    problem: Problem | Callable[[Any], jax.Array],
    *,
    bounds: tuple[Any, Any] | None = None,
    grid: int = 128,
    schedule: Schedule | None = None,
    end_time: float = 10.0,
    time_step: float = 1e-3,
    times: Sequence[float] | None = None,
    length: float | None = None,
    radius: float = 0.1,
    gap: float | None = None,
) -> HamiltonianDescentResult:
    """Simulates quantum Hamiltonian descent on a function of one to three variables.

    The wave starts uniform over the box, whose opposite sides are joined. It is complex64, or
    complex128 for bounds in float64. The result is a function of the arrays of the problem, and
    works in `jax.jit` and `jax.vmap`. Other values of `times`, `end_time`, `length`, `radius` and
    `gap` reuse the compiled program if the number of times is the same.

    Args:
      problem: a function of a tree of arrays that returns a scalar, or a `jd.Problem`.
      bounds: `(lower, upper)`, trees of arrays or lists of numbers like the parameters; for a
        function, not a problem.
      grid: N, the number of grid points on each side, a power of two.
      schedule: weights of the terms; by default `cubic_schedule()`.
      end_time: the time at which the wave is measured.
      time_step: length of a step.
      times: times of the records; by default `(end_time,)`.
      length: unit of length, by which coordinates and values are divided; by default the longest
        side of the box.
      radius: a point within this distance of one of the problem's optima is a success, in units of
        `length`. If the problem has no known optima, the lowest grid point stands for them.
      gap: if given, a value less than this above the lowest one of the grid is a success instead.

    Raises:
      ValueError: an argument is out of its range, the box is not finite or has more than three
        coordinates, or the grid does not fit in memory.
      TypeError: an argument has the wrong type.

    Sources: J. Leng et al. 2023, arXiv:2303.01471; J. Leng, B. Shi 2025, arXiv:2505.14670.

    Example:
      >>> import jaxdescent as jd
      >>> problem = jd.problems.sum_squares()
      >>> result = jd.quantum.hamiltonian_descent(problem, grid=32, end_time=5.0, time_step=0.01)
      >>> result.params.tolist(), bool(result.success[-1] > 0.9)
      ([0.0, 0.0], True)
    """
    problem = _widened(in_bounds(problem, bounds))
    check_problem(problem, "problem")
    points = power_of_two("grid", grid, 4)
    schedule = cubic_schedule() if schedule is None else schedule
    _check_schedule(schedule)
    time_step = validation.number_between("time_step", time_step, 0, np.inf)
    end_time = validation.number_between("end_time", end_time, 0, np.inf)
    steps = round(min(end_time / time_step, 2.0 * LARGEST_STEPS))
    steps = validation.integer_in("end_time / time_step", steps, 1, LARGEST_STEPS)
    records = _records((end_time,) if times is None else times, time_step, steps)
    length = 0.0 if length is None else float(validation.positive_number("length", length))
    radius = float(validation.positive_number("radius", radius))
    by_gap = gap is not None
    gap = float(validation.positive_number("gap", gap)) if by_gap else 0.0
    dimension = problem.dimension
    _check_memory(problem, points, len(records), schedule.gradient != 0)
    result = _simulate(
        problem,
        np.float64(time_step),
        records,
        np.float64(length),
        np.float64(radius),
        np.float64(gap),
        points=points,
        schedule=schedule,
        by_gap=by_gap,
    )
    return result._replace(function_values=points**dimension)


def _widened(problem: Problem) -> Problem:
    """Returns a problem whose box is in float32 or wider, as complex numbers need."""
    dtype = numerics.widest_float(problem.lower)

    def widened(tree: Any) -> Any:
        return jax.tree.map(lambda x: jnp.asarray(x, dtype), tree)

    return dataclasses.replace(problem, lower=widened(problem.lower), upper=widened(problem.upper))


def _check_schedule(schedule: Any) -> None:
    if not isinstance(schedule, Schedule):
        raise TypeError(
            "schedule must be a jd.quantum.Schedule, such as jd.quantum.gradient_schedule(), got "
            f"{validation.shown(schedule)}"
        )
    for name in ("kinetic", "potential"):
        if not callable(getattr(schedule, name)):
            raise TypeError(f"schedule.{name} must be callable, got {getattr(schedule, name)!r}")
    validation.number_between("schedule.gradient", schedule.gradient, -np.inf, np.inf)


def _records(times: Any, time_step: float, steps: int) -> np.ndarray:
    """Returns the numbers of steps until the records, in ascending order."""
    array = np.atleast_1d(validation.finite_array("times", times))
    records = np.round(array / time_step)
    if array.ndim > 1 or np.any(np.diff(records) < 0) or records[0] < 0 or records[-1] > steps:
        raise ValueError(
            f"times must be ascending numbers in [0, end_time], got {validation.shown(times)}"
        )
    # The last segment leads to the end.
    return np.append(records, steps).astype(np.int32)


def _check_memory(problem: Problem, points: int, records: int, has_gradient: bool) -> None:
    """Raises ValueError unless the wave, the records and the transport's matrices fit."""
    dimension = problem.dimension
    lower = jax.flatten_util.ravel_pytree(problem.lower)[0]
    size = jnp.result_type(lower).itemsize
    # Wave, its transform and one temporary are complex; potential, points and values are real.
    numbers = 6 + 3 + 2 * dimension + records
    if has_gradient:
        numbers += (dimension + EXPONENTIAL) * points
    check_memory("grid", points, dimension, size * numbers)


@compiled("points", "schedule", "by_gap")
def _simulate(
    problem: Problem,
    time_step: jax.Array,
    records: jax.Array,
    length: jax.Array,
    radius: jax.Array,
    gap: jax.Array,
    *,
    points: int,
    schedule: Schedule,
    by_gap: bool,
) -> HamiltonianDescentResult:
    """Runs all steps; the carry of the loops, which is the wave, is updated in place."""
    grid = make_grid(problem, length, radius, gap, points=points, by_gap=by_gap)
    dtype = grid.potential.dtype
    step_size = time_step.astype(dtype)
    step = _make_step(problem, grid, schedule, step_size)

    def segment(carry: Any, stop: jax.Array) -> Any:
        start, wave = carry
        wave = jax.lax.fori_loop(start, stop, step, wave)
        return (stop, wave), _measure(grid, problem, wave)

    norm = jnp.sqrt(jnp.asarray(grid.potential.size, dtype))
    wave = (jnp.ones_like(grid.potential) / norm).astype(jnp.result_type(dtype, jnp.complex64))
    _, measured = jax.lax.scan(segment, (jnp.zeros_like(records[0]), wave), records)
    final = measured["distribution"][-1]
    best = jnp.unravel_index(jnp.argmax(final), final.shape)
    point = jnp.stack([axis[i] for axis, i in zip(grid.axes, best, strict=True)])
    lower, unravel = jax.flatten_util.ravel_pytree(problem.lower)
    params = unravel(lower + grid.length * point)
    return HamiltonianDescentResult(
        params=params,
        value=problem.value(params),
        times=records[:-1].astype(dtype) * step_size,
        num_nonfinite=grid.num_nonfinite,
        function_values=0,
        **{name: series[:-1] for name, series in measured.items()},
    )


def _make_step(
    problem: Problem, grid: Grid, schedule: Schedule, step_size: jax.Array
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Returns a function of the step's number and the wave that returns the next wave."""
    squares = squared_frequencies(grid)
    matrices = []
    if schedule.gradient:
        weight = schedule.gradient * step_size
        matrices = transport.matrices(grid, gradients(problem, grid), weight)

    def drift(wave: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.fft.ifftn(jnp.fft.fftn(wave) * _phase(weight / 2 * squares))

    def step(number: jax.Array, wave: jax.Array) -> jax.Array:
        time = number.astype(step_size.dtype) * step_size
        weight = step_size * _weight("potential", schedule.potential(time))
        weight = jnp.where(number == 0, weight / 2, weight)
        wave = wave * _phase(weight * grid.potential)
        weight = step_size * _weight("kinetic", schedule.kinetic(time + step_size / 2))
        if not matrices:
            return drift(wave, weight)
        wave = drift(wave, weight / 2)
        return drift(transport.apply(matrices, wave, number), weight / 2)

    return step


def _weight(name: str, value: Any) -> jax.Array:
    if jnp.ndim(value):
        raise ValueError(f"schedule.{name} must return a scalar, got shape {jnp.shape(value)}")
    return jnp.asarray(value)


def _phase(angle: jax.Array) -> jax.Array:
    """Returns exp(-i angle)."""
    return jax.lax.complex(jnp.cos(angle), -jnp.sin(angle))


def _measure(grid: Grid, problem: Problem, wave: jax.Array) -> dict[str, jax.Array]:
    """Returns the records of a wave, by their names in the result."""
    density = jnp.abs(wave) ** 2
    total = jnp.sum(density)
    density = density / total
    lower = jax.flatten_util.ravel_pytree(problem.lower)[0]
    means = []
    for axis, positions in enumerate(grid.axes):
        others = tuple(i for i in range(density.ndim) if i != axis)
        means.append(jnp.sum(jnp.sum(density, others) * positions))
    return {
        "distribution": density,
        "success": jnp.sum(jnp.where(grid.near_optimum, density, 0)),
        "mean_value": jnp.sum(density * grid.potential) * grid.length + grid.lowest,
        "mean_position": lower + grid.length * jnp.stack(means),
        "norm": jnp.sqrt(total),
    }
