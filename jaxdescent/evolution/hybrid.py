"""Global minimization of a function with gradients, with nothing to tune.

Two searches share the evaluations (`islands.py`): CMA-ES over the local minima that L-BFGS reaches
from its samples, and CMA-ES over the samples themselves. Both restart with other population sizes.
Everything is one compiled program, and the number of evaluations is an argument of it.
"""

import enum
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdescent import validation
from jaxdescent.evolution import islands
from jaxdescent.evolution.islands import Best, Function, Island
from jaxdescent.numerics import widest_float
from jaxdescent.problem import Problem
from jaxdescent.programs import compiled

LARGEST_DIMENSION = 2_000
"""The covariance matrix is decomposed once in each generation, in time of order n^3."""

HISTORY = 128
"""Number of points of a history."""


class StopReason(enum.IntEnum):
    """Reason why `hybrid` stopped."""

    BUDGET = 0
    """`max_evaluations` were computed."""
    TARGET = 1
    """The value is at most `target`."""
    CONVERGED = 2
    """`patience` restarts in a row found no lower value."""
    UNDEFINED = 3
    """No value was finite. The result is not a minimum."""


class HybridHistory(NamedTuple):
    """Best values along a run.

    Attributes:
      evaluations: i32[128], numbers of evaluations, evenly spaced on a logarithmic scale.
      values: f[128], the best value after so many evaluations; inf before the first finite one.
    """

    evaluations: jax.Array
    values: jax.Array


class HybridResult(NamedTuple):
    """Result of `hybrid`.

    Attributes:
      params: the best point, a tree like the box.
      value: f[], the value there; inf if no value was finite.
      evaluations: i32[], number of values computed, each with its gradient.
      evaluations_to_best: i32[], number of evaluations after which the best point was known.
      stop_reason: i32[], a `StopReason`.
      restarts: i32[2], restarts of the searches over local minima and over points.
      history: the best values along the run.
    """

    params: Any
    value: jax.Array
    evaluations: jax.Array
    evaluations_to_best: jax.Array
    stop_reason: jax.Array
    restarts: jax.Array
    history: HybridHistory


def hybrid(
    problem: Problem | Callable[[Any], jax.Array],
    *,
    bounds: tuple[Any, Any] | None = None,
    key: jax.Array | None = None,
    max_evaluations: int | None = None,
    target: float | None = None,
    patience: int | None = 20,
    lanes: int = 16,
) -> HybridResult:
    """Finds the global minimum of a function with gradients.

    There is nothing to tune: no learning rate, no population size, no number of restarts. The
    function may have many local minima, narrow curved valleys, a bad scale, ridges and steps. All
    points are within the bounds. The result does not change when the function is multiplied by a
    positive number, or the box is scaled with it, up to rounding.

    In float32, values are exact to about 7 digits. Enable x64 in JAX for more; the points have the
    dtype of the box.

    Args:
      problem: a function of a tree of arrays that returns a scalar, or a `jd.Problem`. A problem
        without bounds needs a finite box of starts, in whose widths steps are measured.
      bounds: `(lower, upper)`, trees of arrays like the parameters; for a function, not a problem.
      key: random key; by default `jax.random.key(0)`.
      max_evaluations: upper bound on evaluations of value and gradient; by default 10,000 for each
        coordinate.
      target: stops when a value is at most this number.
      patience: stops after this number of restarts in a row without a lower value; None goes on.
      lanes: number of descents side by side. Descents that end early wait for the others in their
        lanes; what is computed in the meantime is not counted.

    Raises:
      ValueError: an argument is out of its range, the box is not finite, or there are more than
        2,000 coordinates.
      TypeError: an argument has the wrong type.

    Sources: see `cma_es.py` and `local_search.py`; the combination is ours.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def rastrigin(x):
      ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
      >>> box = jnp.full(3, 5.12)
      >>> result = jd.hybrid(rastrigin, bounds=(-box, 1.5 * box), target=1e-4)
      >>> bool(result.value <= 1e-4), jd.StopReason(int(result.stop_reason)).name
      (True, 'TARGET')
    """
    problem = _as_problem(problem, bounds)
    problem.check_starts()
    n = problem.dimension
    if n > LARGEST_DIMENSION:
        raise ValueError(
            f"problem must have at most {LARGEST_DIMENSION} coordinates, got {n}; descend with "
            "jd.minimize instead"
        )
    if max_evaluations is None:
        max_evaluations = min(10_000 * n, 2**31 - 1)
    max_evaluations = validation.integer_in("max_evaluations", max_evaluations, 1, 2**31 - 1)
    limit = 2**31 - 1 if patience is None else validation.integer_in("patience", patience, 1)
    lowest = (
        -np.inf if target is None else validation.number_between("target", target, -np.inf, np.inf)
    )
    lanes = validation.integer_in("lanes", lanes, 1, islands.LARGEST_POPULATION)
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    validation.check_scalar("problem", jax.eval_shape(problem.value, problem.lower))
    limits = _Limits(np.int32(max_evaluations), np.float64(lowest), np.int32(min(limit, 2**31 - 1)))
    result = _hybrid(problem, key, limits, lanes=lanes)
    if validation.is_concrete(result.value) and result.stop_reason == StopReason.UNDEFINED:
        warnings.warn(
            f"the function must be finite somewhere in the box, got no finite value in "
            f"{int(result.evaluations)} evaluations; choose bounds in which it is defined",
            RuntimeWarning,
            stacklevel=2,
        )
    return result


class _Limits(NamedTuple):
    """Limits of a run; arrays, so that other numbers do not compile another program."""

    evaluations: Any
    target: Any
    restarts: Any


class _State(NamedTuple):
    """State of a run: both searches, and since when they have found nothing."""

    searches: Island  # with a leading axis of searches
    best: Best
    generation: jax.Array
    improved: jax.Array  # restarts of both searches when the best value last decreased
    history: jax.Array
    is_done: jax.Array


@compiled("lanes")
def _hybrid(problem: Problem, key: jax.Array, limits: _Limits, *, lanes: int) -> HybridResult:
    function, start, to_params = _in_unit_box(problem)
    n, dtype = start.size, start.dtype
    target = limits.target.astype(dtype)
    # The rest is for the last descent.
    budget = limits.evaluations - jnp.minimum(limits.evaluations // 10, 100 + 20 * n)
    # In float64 if there is, because float32 could not tell neighboring counts apart.
    places = jnp.linspace(0, jnp.log(limits.evaluations), HISTORY)
    counts = jnp.ceil(jnp.exp(places)).astype(jnp.int32)
    shares = jnp.asarray(islands.SHARES)

    def goes_on(state: _State) -> jax.Array:
        waiting = jnp.sum(state.searches.restarts, dtype=jnp.int32) - state.improved
        unfinished = (state.best.value > target) & (waiting < limits.restarts)
        return unfinished & (state.best.evaluations < budget)

    def advance(state: _State) -> _State:
        search = jnp.argmin(state.searches.evaluations / shares).astype(jnp.int32)
        island = jax.tree.map(lambda x: x[search], state.searches)
        is_last = ~goes_on(state)
        island = island._replace(
            polishes=island.polishes | is_last,
            run_point=jnp.where(is_last, state.best.point, island.run_point),
        )
        island, best = islands.advance(
            island,
            search,
            state.best,
            function,
            jax.random.fold_in(key, state.generation),
            budget=jnp.where(is_last, limits.evaluations, budget),
            target=target,
            lanes=lanes,
        )
        searches = jax.tree.map(lambda x, new: x.at[search].set(new), state.searches, island)
        smallest = jnp.maximum(1e-9 * jnp.max(searches.spread), islands.rounding(best.value))
        improves = best.value < state.best.value - smallest
        return _State(
            searches=jax.tree.map(partial(jnp.where, is_last), state.searches, searches),
            best=best,
            generation=state.generation + 1,
            improved=jnp.where(
                improves, jnp.sum(searches.restarts, dtype=jnp.int32), state.improved
            ),
            history=jnp.where(counts >= best.evaluations, best.value, state.history),
            is_done=is_last,
        )

    infinite = jnp.asarray(jnp.inf, dtype)
    searches = [islands.begin(start, search) for search in (islands.MINIMA, islands.POINTS)]
    state = _State(
        searches=jax.tree.map(lambda *x: jnp.stack(x), *searches),
        best=Best(start, infinite, jnp.int32(0), jnp.int32(0)),
        generation=jnp.int32(0),
        improved=jnp.int32(0),
        history=jnp.full(HISTORY, infinite),
        is_done=jnp.zeros((), bool),
    )
    # The last round descends from the best point, which makes the result exact.
    state = jax.lax.while_loop(lambda state: ~state.is_done, advance, state)
    best = state.best
    is_over = jnp.sum(state.searches.restarts, dtype=jnp.int32) - state.improved >= limits.restarts
    reason = jnp.where(is_over, StopReason.CONVERGED, StopReason.BUDGET)
    reason = jnp.where(best.value <= target, StopReason.TARGET, reason)
    reason = jnp.where(jnp.isfinite(best.value), reason, StopReason.UNDEFINED)
    return HybridResult(
        params=to_params(best.point),
        value=best.value,
        evaluations=best.evaluations,
        evaluations_to_best=best.found_at,
        stop_reason=reason.astype(jnp.int32),
        restarts=state.searches.restarts,
        history=HybridHistory(counts, state.history),
    )


def _as_problem(problem: Any, bounds: Any) -> Problem:
    """Returns a problem, from a function with bounds if it is one."""
    if isinstance(problem, Problem):
        if bounds is not None:
            raise ValueError(
                "bounds must be None with a jd.Problem, which has its own, got "
                f"{validation.shown(bounds)}"
            )
        return problem
    if not callable(problem):
        raise TypeError(
            f"problem must be a function or a jd.Problem, got {validation.shown(problem)}"
        )
    if not (isinstance(bounds, tuple) and len(bounds) == 2):
        raise ValueError(
            "bounds must be (lower, upper) where problem is a function, got "
            f"{validation.shown(bounds)}"
        )
    lower, upper = (jax.tree.map(jnp.asarray, side) for side in bounds)
    return Problem(problem, lower, upper)


def _in_unit_box(
    problem: Problem,
) -> tuple[Function, jax.Array, Callable[[jax.Array], Any]]:
    """Returns a function of f[n] whose box of starts is [0, 1]^n, its center and the map back."""
    has_starts = problem.start_lower is not None
    low = problem.start_lower if has_starts else problem.lower
    high = problem.start_upper if has_starts else problem.upper
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

    def value_and_grad(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, grads = problem.value_and_grad(to_params(u))
        grad = ravel_pytree(jax.tree.map(lambda x: x.astype(dtype), grads))[0] * width
        return value.astype(dtype), jnp.where(jnp.isfinite(grad), grad, 0)

    if problem.bounds is None:
        lower, upper = (jnp.full_like(origin, bound) for bound in (-jnp.inf, jnp.inf))
    else:
        lower, upper = (
            (ravel_pytree(jax.tree.map(lambda x: jnp.asarray(x, dtype), side))[0] - origin) / width
            for side in (problem.lower, problem.upper)
        )
    return Function(value_and_grad, lower, upper), jnp.full_like(origin, 0.5), to_params
