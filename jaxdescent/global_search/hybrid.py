"""Global minimization of a function with gradients, with nothing to tune.

Two searches share the evaluations (`islands.py`): CMA-ES over the local minima that L-BFGS reaches
from its samples, and CMA-ES over the samples themselves. Both restart with other population sizes.
Before them there is one descent, and from time to time a search along the coordinates
(`coordinate_search.py`). Everything is one compiled program, and the number of evaluations is an
argument of it.
"""

import enum
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.global_search import coordinate_search, islands
from jaxdescent.global_search.islands import Best, Island
from jaxdescent.global_search.parts import Parts
from jaxdescent.global_search.unit_box import check_box, in_unit_box
from jaxdescent.problem import Problem, in_bounds
from jaxdescent.programs import compiled

LARGEST_DIMENSION = 2_000
"""The covariance matrix is decomposed once in each generation, in time of order n^3."""

HISTORY = 128
"""Number of points of a history."""

PATIENCE = 1_000
"""Fewest evaluations for each coordinate without a lower value before a run may stop."""


class StopReason(enum.IntEnum):
    """Reason why `hybrid` stopped."""

    BUDGET = 0
    """Too few of `max_evaluations` were left for another round and a last descent."""
    TARGET = 1
    """The value is at most `target`."""
    CONVERGED = 2
    """The restarts and evaluations of `patience` found no lower value."""
    UNDEFINED = 3
    """No value was finite. The result is not a minimum."""


class HybridHistory(NamedTuple):
    """Best values along a run.

    Attributes:
      evaluations: i32[128], numbers of evaluations, evenly spaced on a logarithmic scale.
      values: f[128], the best value after so many evaluations; inf before the first finite one. It
        is recorded after each generation of samples, and so may be late by one generation.
    """

    evaluations: jax.Array
    values: jax.Array


class HybridResult(NamedTuple):
    """Result of `hybrid`.

    Attributes:
      params: the best point, a tree like the box.
      value: f[], the value there; inf if no value was finite.
      evaluations: i32[], number of evaluations that the method needs, with or without a gradient.
      gradients: i32[], number of evaluations with a gradient.
      evaluations_to_best: i32[], number of evaluations up to the best point, if descents that run
        side by side are counted one after another.
      gradients_to_best: i32[], number of those with a gradient.
      evaluations_computed: i32[], their number including descents that had ended and were still
        computed beside others; equal to `evaluations` with `lanes=1`.
      stop_reason: i32[], a `StopReason`.
      restarts: i32[2], restarts of the searches over local minima and over points.
      history: the best values along the run.
    """

    params: Any
    value: jax.Array
    evaluations: jax.Array
    gradients: jax.Array
    evaluations_to_best: jax.Array
    gradients_to_best: jax.Array
    evaluations_computed: jax.Array
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

    There is nothing to tune: no learning rate, no population size, no number of restarts. All
    points are within the bounds. Values and coordinates are measured in units of their own ranges:
    a factor of the function, or of the box and the coordinates, changes the result only by
    rounding, and not at all if it is a power of two. Points without a finite value are avoided.

    In float32, values are exact to about 7 digits. For more, enable x64 in JAX and give bounds in
    float64; the points have the dtype of the bounds.

    Args:
      problem: a function of a tree of arrays that returns a scalar, or a `jd.Problem`. Its box of
        starts must be finite; steps are measured in its widths. `sample_fn` and `unit_box` are not
        used.
      bounds: `(lower, upper)`, trees of arrays or lists of numbers like the parameters; for a
        function, not a problem.
      key: random key; by default `jax.random.key(0)`.
      max_evaluations: upper bound on evaluations, with or without a gradient; by default 10,000
        for each coordinate.
      target: stops at the first value of at most this number.
      patience: stops after this number of restarts without a lower value, if that also took 1,000
        evaluations for each coordinate; None goes on.
      lanes: number of descents side by side. The next ones begin when all have ended. Another
        number gives another result.

    Raises:
      ValueError: an argument is out of its range, the box is not finite, or there are more than
        2,000 coordinates.
      TypeError: an argument has the wrong type.

    Sources: see `covariance_adaptation.py` and `local_search.py`; the combination is ours.

    Example:
      >>> import jax.numpy as jnp, jaxdescent as jd
      >>> def rastrigin(x):
      ...     return jnp.sum(x**2 - 10 * jnp.cos(2 * jnp.pi * x) + 10)
      >>> box = jnp.full(3, 5.12)
      >>> result = jd.hybrid(rastrigin, bounds=(-box, 1.5 * box), target=1e-4)
      >>> bool(result.value <= 1e-4), jd.StopReason(int(result.stop_reason)).name
      (True, 'TARGET')
    """
    problem = in_bounds(problem, bounds)
    check_box(problem)
    n = problem.dimension
    if n > LARGEST_DIMENSION:
        raise ValueError(
            f"problem must have at most {LARGEST_DIMENSION} coordinates, got {n}; descend with "
            "jd.minimize instead"
        )
    if max_evaluations is None:
        max_evaluations = min(10_000 * n, 2**31 - 1)
    max_evaluations = validation.integer_in("max_evaluations", max_evaluations, 1, 2**31 - 1)
    if patience is not None:
        patience = validation.integer_in("patience", patience, 1, 2**31 - 1)
    if target is not None:
        target = validation.number_between("target", target, -np.inf, np.inf)
    lanes = validation.integer_in("lanes", lanes, 1, islands.LARGEST_POPULATION)
    key = validation.random_key("key", jax.random.key(0) if key is None else key)
    value = jax.eval_shape(problem.value, problem.lower)
    validation.check_scalar("problem", value)
    # A target beyond the largest number of the dtype is still a number.
    largest = float(jnp.finfo(value.dtype).max)
    target = None if target is None else np.clip(target, -largest, largest)
    limits = Limits.of(max_evaluations, target, patience)
    result = search(problem, key, limits, lanes=lanes, parts=Parts())
    if validation.is_concrete(result.value) and result.stop_reason == StopReason.UNDEFINED:
        warnings.warn(
            f"the function must be finite somewhere in the box, got no finite value in "
            f"{int(result.evaluations)} evaluations; choose bounds in which it is defined",
            RuntimeWarning,
            stacklevel=2,
        )
    return result


class Limits(NamedTuple):
    """Limits of a run; arrays, so that other numbers do not compile another program."""

    evaluations: Any
    counts: Any
    target: Any
    patience: Any

    @classmethod
    def of(cls, max_evaluations: int, target: float | None, patience: int | None) -> "Limits":
        """Returns the limits of numbers; None stands for no limit."""
        return cls(
            evaluations=np.int32(max_evaluations),
            counts=np.geomspace(1, max_evaluations, HISTORY).round().astype(np.int32),
            target=np.float64(-np.inf if target is None else target),
            patience=np.int32(2**31 - 1 if patience is None else patience),
        )


class _State(NamedTuple):
    """State of a run: both searches, and since when they have found nothing."""

    searches: Island  # with a leading axis of searches
    best: Best
    generation: jax.Array
    descends_next: jax.Array  # whether the next round descends from the best point
    swept: jax.Array  # evaluations of searches along coordinates
    restarts_at_best: jax.Array  # restarts of both searches when the best value last decreased
    evaluations_at_best: jax.Array
    history: jax.Array
    is_done: jax.Array
    is_converged: jax.Array


@compiled("lanes", "parts")
def search(
    problem: Problem, key: jax.Array, limits: Limits, *, lanes: int, parts: Parts
) -> HybridResult:
    """Runs the search with some of its parts; see `hybrid`."""
    function, start, to_params = in_unit_box(problem)
    n, dtype = start.size, start.dtype
    target = limits.target.astype(dtype)
    sweep_cost = coordinate_search.cost(n)
    budget = limits.evaluations
    if parts.last_descents:
        budget -= jnp.minimum(budget // 10, islands.longest_last_descent(n))

    def available(state: _State) -> jax.Array:
        """bool[2], the searches that may go on."""
        switched_on = jnp.array([parts.minima, parts.points])
        return switched_on & (parts.restarts | (state.searches.restarts == 0))

    def has_converged(state: _State) -> jax.Array:
        restarts = jnp.sum(state.searches.restarts, dtype=jnp.int32) - state.restarts_at_best
        evaluations = state.best.evaluations - state.evaluations_at_best
        finds_nothing = (restarts >= limits.patience) & (evaluations >= PATIENCE * n)
        return finds_nothing | ~jnp.any(available(state))

    def advance_search(state: _State, key: jax.Array, is_last: jax.Array) -> _State:
        is_early = state.best.evaluations < islands.EARLY * n
        shares = jnp.where(is_early, jnp.array(islands.SHARES), jnp.array(islands.LATER_SHARES))
        spent = jnp.where(available(state), state.searches.evaluations / shares, jnp.inf)
        row = jnp.argmin(spent).astype(jnp.int32)
        island = jax.tree.map(lambda x: x[row], state.searches)
        descends = is_last | state.descends_next
        island = island._replace(
            polishes=island.polishes | descends,
            run_point=jnp.where(descends, state.best.point, island.run_point),
        )
        island, best = islands.advance(
            island,
            row,
            state.best,
            function,
            key,
            budget=jnp.where(is_last, limits.evaluations, budget),
            target=target,
            lanes=lanes,
            parts=parts,
        )
        searches = jax.tree.map(lambda x, new: x.at[row].set(new), state.searches, island)
        searches = jax.tree.map(partial(jnp.where, descends), state.searches, searches)
        return state._replace(
            searches=searches, best=best, descends_next=jnp.zeros_like(descends), is_done=is_last
        )

    def sweep(state: _State, key: jax.Array) -> _State:
        best = state.best
        point, value = coordinate_search.sweep(best.point, best.value, function, key)
        return state._replace(
            best=best.after(
                point[None],
                value[None],
                jnp.full(1, sweep_cost),
                jnp.int32(sweep_cost),
                has_gradients=jnp.zeros((), bool),
                target=target,
            ),
            descends_next=value < best.value,
            swept=state.swept + sweep_cost,
        )

    def advance(state: _State) -> _State:
        is_converged = has_converged(state)
        evaluations = state.best.evaluations
        is_last = is_converged | (state.best.value <= target) | (evaluations >= budget)
        sweeps = state.swept + sweep_cost <= coordinate_search.SHARE * evaluations
        sweeps &= (evaluations + sweep_cost <= budget) & ~state.descends_next & ~is_last
        sweeps &= parts.sweeps
        round_key = jax.random.fold_in(key, state.generation)
        new = jax.lax.cond(
            sweeps,
            lambda: sweep(state, round_key),
            lambda: advance_search(state, round_key, is_last),
        )
        if not parts.last_descents:
            ended = state._replace(is_done=is_last)
            new = jax.tree.map(partial(jnp.where, is_last), ended, new)
        best = new.best
        smallest = islands.smallest_decrease(jnp.max(new.searches.unit), best.value)
        improves = best.value < state.best.value - smallest
        restarts = jnp.sum(new.searches.restarts, dtype=jnp.int32)
        return new._replace(
            generation=state.generation + 1,
            restarts_at_best=jnp.where(improves, restarts, state.restarts_at_best),
            evaluations_at_best=jnp.where(improves, best.evaluations, state.evaluations_at_best),
            history=jnp.where(limits.counts >= best.evaluations, best.value, state.history),
            is_converged=is_converged,
        )

    infinite = jnp.asarray(jnp.inf, dtype)
    first = jax.random.uniform(jax.random.fold_in(key, 2**31), start.shape, dtype)
    searches = [islands.begin(start, row) for row in (islands.MINIMA, islands.POINTS)]
    state = _State(
        searches=jax.tree.map(lambda *x: jnp.stack(x), *searches),
        best=Best(first, infinite, *[jnp.int32(0)] * 5),
        generation=jnp.int32(0),
        descends_next=jnp.asarray(parts.first_descent),
        swept=jnp.int32(0),
        restarts_at_best=jnp.int32(0),
        evaluations_at_best=jnp.int32(0),
        history=jnp.full(HISTORY, infinite),
        is_done=jnp.zeros((), bool),
        is_converged=jnp.zeros((), bool),
    )
    # The first round descends from a random point, which solves functions with one minimum. The
    # last round descends from the best point, which makes the result exact.
    state = jax.lax.while_loop(lambda state: ~state.is_done, advance, state)
    best = state.best
    reason = jnp.where(state.is_converged, StopReason.CONVERGED, StopReason.BUDGET)
    reason = jnp.where(best.value <= target, StopReason.TARGET, reason)
    reason = jnp.where(jnp.isfinite(best.value), reason, StopReason.UNDEFINED)
    return HybridResult(
        params=to_params(best.point),
        value=best.value,
        evaluations=best.evaluations,
        gradients=best.gradients,
        evaluations_to_best=best.found_at,
        gradients_to_best=best.gradients_found_at,
        evaluations_computed=best.computed,
        stop_reason=reason.astype(jnp.int32),
        restarts=state.searches.restarts,
        history=HybridHistory(limits.counts, state.history),
    )
