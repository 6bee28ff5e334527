"""Rotosolve and Rotoselect: exact minimization of one angle after another.

As a function of one angle d, relative to its present value, an expectation value is

    f(d) = C + A sin(d + B)          M0, M+, M- = f(0), f(pi/2), f(-pi/2)
    C = (M+ + M-) / 2,   A^2 = (M0 - C)^2 + (M+ - M-)^2 / 4
    d* = -pi/2 - atan2(2 M0 - M+ - M-, M+ - M-),   f(d*) = C - A

The minimum is M0 of the next angle. A sweep over n angles therefore takes 2n + 1 values, where
three per angle would take 3n. With frequencies u, ..., R u, f is a trigonometric polynomial: it is
found from 2R + 1 equidistant values, one of them known, and minimized on a grid and by Newton's
method.

Rotoselect also chooses the axis of each rotation. All axes share the value at the angle 0, so that
a gate takes 7 values.

Sources: M. Ostaszewski, E. Grant, M. Benedetti 2021, arXiv:1905.09692; K. M. Nakanishi, K. Fujii,
S. Todo 2020, arXiv:1903.12166, for the value that is carried on.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.quantum.circuits.circuit import Expectation
from jaxdescent.quantum.estimators.parameter_shift import check_frequencies
from jaxdescent.quantum.estimators.shots import SampledExpectation
from jaxdescent.quantum.optimizers.circuit_optimizer import (
    CircuitOptimizer,
    check_function,
    check_size,
    circuit_optimizer,
    counted,
    flat_function,
    no_count,
)

POINTS_PER_FREQUENCY, NEWTON_STEPS = 16, 4


class RotosolveState(NamedTuple):
    """State of `rotosolve` and `rotoselect`.

    Attributes:
      value: f[], the function's value at the parameters, as predicted by the last fit; NaN before
        the first step.
      values: f[n], or f[gates], the predicted value after each coordinate of the last sweep, at no
        further executions; NaN before the first step.
      executions: i32[], number of executions of the circuit until now.
      shots: i32[], number of measurements until now.
    """

    value: jax.Array
    values: jax.Array
    executions: jax.Array
    shots: jax.Array


def rotosolve(
    function: Any, *, num_frequencies: int = 1, unit: float = 1.0, refresh: bool = True
) -> CircuitOptimizer:
    """Minimizes one parameter after another exactly.

    It needs no learning rate. A step is a sweep over all parameters, in the order of their leaves.

    Args:
      function: Called as `function(params)`; returns a real scalar that is a trigonometric
        polynomial of each parameter. It can be an `Expectation`, a `sampled` one, or a QNode.
      num_frequencies: R, the number of frequencies of each parameter, at least 1.
      unit: the lowest frequency, a number in (0, inf): 1 for rotations; 1/2, with R = 2, for
        controlled rotations and excitations.
      refresh: whether a sweep begins with a new value at the parameters. Without it, which is for
        exact values, the first sweep takes `2 R n + 1` executions and each further one `2 R n`. If
        values are measured, errors of the predicted value would accumulate.

    Returns:
      A `CircuitOptimizer`, whose step takes `2 R n + 1` executions.

    Raises:
      TypeError: an argument has the wrong type.
      ValueError: an argument is out of its range; in `init`, a parameter of a circuit has other
        frequencies.

    Example:
      See `CircuitOptimizer`.
    """
    check_function(function)
    validation.integer_in("num_frequencies", num_frequencies, 1)
    unit = float(validation.positive_number("unit", unit))
    validation.boolean("refresh", refresh)
    solve = _of_one_frequency if num_frequencies == 1 else _of_many_frequencies
    offsets = _offsets(num_frequencies) / unit

    def init(params: Any, key: Any = None) -> RotosolveState:
        del key
        flat = flat_function(function, params)[0]
        inner = function.expectation if isinstance(function, SampledExpectation) else function
        if isinstance(inner, Expectation):
            check_frequencies(inner, params, num_frequencies, unit)
        return _unknown(flat.size, flat.dtype)

    def step(params: Any, state: RotosolveState, key: jax.Array) -> tuple[Any, RotosolveState]:
        flat, unravel, value_at = flat_function(function, params)
        check_size(flat, state.values.size)
        first_key, key = jax.random.split(key)
        needs_value = refresh | jnp.isnan(state.value)
        first = value_at(flat, first_key)
        value = jnp.where(needs_value, first, state.value)

        def minimize_one(index: jax.Array, carry: Any) -> Any:
            x, value, found = carry
            draws = jax.random.split(jax.random.fold_in(key, index), len(offsets))
            moves = jnp.asarray(offsets, x.dtype)
            points = jax.vmap(lambda move: x.at[index].add(move))(moves)
            values = jax.vmap(value_at)(points, draws)
            change, lowest = solve(value, values)
            x = x.at[index].set(_wrapped(x[index] + change / unit, unit))
            return x, lowest, found.at[index].set(lowest)

        start = (flat, value, state.values)
        flat, value, found = jax.lax.fori_loop(0, flat.size, minimize_one, start)
        counts = counted(state, function, len(offsets) * flat.size)
        spared = counted(state._replace(**counts), function, 1)
        counts = {name: jnp.where(needs_value, spared[name], counts[name]) for name in counts}
        return unravel(flat), RotosolveState(value, found, **counts)

    return circuit_optimizer(RotosolveState, init, step)


def rotoselect(function: Any) -> CircuitOptimizer:
    """Minimizes over the angle and the axis of one rotation after another.

    Args:
      function: Called as `function(params)` with params f[gates, 3]: the angles of rotations around
        X, Y and Z, which follow one another, such as `gates.rx(gates.param(g, 0), wire)`. At most
        one angle of each row is not 0. It can be an `Expectation` or a `sampled` one.

    Returns:
      A `CircuitOptimizer`, whose step is a sweep over all gates and takes 7 executions per gate.

    Raises:
      TypeError: `function` cannot be called.
      ValueError: in `init`, the parameters are not f[gates, 3].

    Example:
      >>> import jax, jax.numpy as jnp, jaxdescent as jd
      >>> gates = jd.quantum.gates
      >>> axes = enumerate([gates.rx, gates.ry, gates.rz])
      >>> circuit = jd.quantum.Circuit(1, [axis(gates.param(0, i), 0) for i, axis in axes])
      >>> optimizer = jd.quantum.rotoselect(circuit.expectation(jd.quantum.pauli_sum({"X": 1.0})))
      >>> params, key = jnp.zeros((1, 3)), jax.random.key(0)
      >>> params, state = optimizer.step(params, optimizer.init(params, key), key)
      >>> [round(float(x), 2) for x in params[0]], int(state.executions)  # around Y by -pi/2
      ([0.0, -1.57, 0.0], 7)
    """
    check_function(function)

    def init(params: Any, key: Any = None) -> RotosolveState:
        del key
        flat = flat_function(function, params)[0]
        _check_rows(params)
        return _unknown(flat.size // 3, flat.dtype)

    def step(params: Any, state: RotosolveState, key: jax.Array) -> tuple[Any, RotosolveState]:
        _check_rows(params)
        flat, unravel, value_at = flat_function(function, params)
        check_size(flat, 3 * state.values.size)
        moves = jnp.concatenate([jnp.zeros((1, 3)), jnp.eye(3), -jnp.eye(3)]).astype(flat.dtype)

        def choose(row: jax.Array, carry: Any) -> Any:
            rows, found = carry
            draws = jax.random.split(jax.random.fold_in(key, row), 7)
            points = jax.vmap(lambda move: rows.at[row].set(np.pi / 2 * move))(moves)
            values = jax.vmap(lambda x, key: value_at(x.ravel(), key))(points, draws)
            pairs = values[1:].reshape(2, 3).T
            angles, lowest = jax.vmap(lambda pair: _of_one_frequency(values[0], pair))(pairs)
            best = jnp.argmin(lowest)
            angle = jnp.where(jnp.arange(3) == best, _wrapped(angles, 1.0), 0)
            return rows.at[row].set(angle), found.at[row].set(lowest[best])

        rows = flat.reshape(-1, 3)
        rows, found = jax.lax.fori_loop(0, len(rows), choose, (rows, state.values))
        counts = counted(state, function, 7 * len(rows))
        return unravel(rows.ravel()), RotosolveState(found[-1], found, **counts)

    return circuit_optimizer(RotosolveState, init, step)


def _unknown(size: int, dtype: Any) -> RotosolveState:
    """Returns the state before the first step."""
    values = jnp.full(size, jnp.nan, dtype)
    return RotosolveState(jnp.full((), jnp.nan, dtype), values, no_count(), no_count())


def _check_rows(params: Any) -> None:
    if np.ndim(params) != 2 or np.shape(params)[1] != 3:
        raise ValueError(
            f"params must be f[gates, 3], the angles around X, Y and Z, got shape "
            f"{jax.tree.map(np.shape, params)}"
        )


def _offsets(num_frequencies: int) -> np.ndarray:
    """Returns the shifts of the values that a fit needs besides the known one."""
    if num_frequencies == 1:
        return np.array([np.pi / 2, -np.pi / 2])
    count = 2 * num_frequencies + 1
    return 2 * np.pi / count * np.arange(1, count)


def _of_one_frequency(center: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the minimizer of C + A sin(d + B), and the minimum; values are M+ and M-."""
    ahead, behind = values
    mean = (ahead + behind) / 2
    amplitude = jnp.hypot(center - mean, (ahead - behind) / 2)
    return -np.pi / 2 - jnp.arctan2(2 * (center - mean), ahead - behind), mean - amplitude


def _of_many_frequencies(center: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the minimizer of a trigonometric polynomial, in units of 1/unit, and the minimum."""
    known = jnp.concatenate([center[None], values])
    count = len(known)
    highest = count // 2
    points = 2 * np.pi / count * np.arange(count)
    orders = np.arange(1, highest + 1)
    cosines = 2 / count * jnp.asarray(np.cos(np.outer(orders, points)), known.dtype) @ known
    sines = 2 / count * jnp.asarray(np.sin(np.outer(orders, points)), known.dtype) @ known
    k = jnp.asarray(orders, known.dtype)

    def at(d: jax.Array) -> jax.Array:
        return jnp.mean(known) + jnp.sum(cosines * jnp.cos(k * d) + sines * jnp.sin(k * d))

    size = 2 * POINTS_PER_FREQUENCY * highest
    grid = jnp.asarray(2 * np.pi / size * np.arange(size), known.dtype)
    start = grid[jnp.argmin(jax.vmap(at)(grid))]

    def newton(_: Any, d: jax.Array) -> jax.Array:
        slope, curvature = jax.grad(at)(d), jax.grad(jax.grad(at))(d)
        change = jnp.where(curvature > 0, slope / jnp.where(curvature > 0, curvature, 1), 0)
        return d - jnp.clip(change, -np.pi / size, np.pi / size)

    found = jax.lax.fori_loop(0, NEWTON_STEPS, newton, start)
    found = jnp.where(at(found) <= at(start), found, start)
    return found, at(found)


def _wrapped(angle: jax.Array, unit: float) -> jax.Array:
    """Returns an angle in [-pi/unit, pi/unit)."""
    period = 2 * np.pi / unit
    return (angle + period / 2) % period - period / 2
