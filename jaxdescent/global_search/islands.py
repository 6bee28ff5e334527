"""Two searches that share a budget: CMA-ES over local minima, and CMA-ES over points.

Each is a sequence of runs. A run samples generations from a Gaussian until it converges or stalls;
then its best point is descended to the end, and the next run starts elsewhere with another
population size. In the search over local minima, each sample first descends by L-BFGS, and the
minimum that it reaches takes its place: local structure that is small compared with the Gaussian
then no longer matters. The other search ranks the samples themselves, which works
where gradients are of no use, such as on steps, ridges and functions that are rugged everywhere.

Sources: N. Hansen, 2009, GECCO workshop on BBOB (restarts in two regimes, BIPOP); P. Moscato, 1989
(memetic search: evolution of local minima).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdescent import covariance_adaptation as cma_es
from jaxdescent.global_search import local_search
from jaxdescent.global_search.parts import Parts
from jaxdescent.global_search.unit_box import Function

LARGEST_POPULATION = 512
"""Largest number of samples in a generation."""

MINIMA, POINTS = 0, 1
"""Rows of the two searches."""

SHARES = (2.0, 1.0)
"""Shares of the evaluations that the two searches get at first."""

LATER_SHARES = (1.0, 1.0)
"""Their shares later, where gradients have not been enough."""

EARLY = 1_000
"""Number of evaluations for each coordinate to which `SHARES` apply."""

SIGMA = (0.4, 0.2)
"""Initial standard deviations, in widths of the box."""

POPULATION = (1, 2)
"""Number of samples of the first run, in units of the default of CMA-ES."""

SMALLEST_SIGMA = (1.0, 2.0)
"""Runs of the small regime start with a deviation that is smaller by up to this many powers
of 10."""

FIRST_STEP = 0.02
"""First step of a descent, as root mean square over coordinates, in widths of the box."""

# A run ends when its distribution is narrower than this, or the values of the better half of a
# generation are closer than this, in units of the first generation's.
_CONVERGED_WIDTH = (1e-5, 1e-12)
_CONVERGED_SPREAD = (1e-11, 1e-13)
_TOLERANCE = 1e-4  # decrease that ends a descent, relative to the spread of the last generation
_FIRST_SPREAD = 1e-2  # which stands for that spread in the first generation of a later run
_FEWEST = 50  # evaluations before a descent is cut off
_RESTART = 2**31  # a number that no row has, for the random key of a restart


class Best(NamedTuple):
    """The best point so far and what has been spent.

    Attributes:
      point: f[n].
      value: f[], inf before the first finite value.
      evaluations: i32[], number of evaluations so far.
      gradients: i32[], number of evaluations with a gradient.
      found_at: i32[], number of evaluations at which the best point was found.
      gradients_found_at: i32[], number of those with a gradient.
      computed: i32[], evaluations including descents that had ended; at most 2^31 - 1.
    """

    point: jax.Array
    value: jax.Array
    evaluations: jax.Array
    gradients: jax.Array
    found_at: jax.Array
    gradients_found_at: jax.Array
    computed: jax.Array

    def after(
        self,
        points: jax.Array,
        values: jax.Array,
        evaluations: jax.Array,
        computed: jax.Array,
        *,
        has_gradients: jax.Array,
        target: jax.Array,
    ) -> "Best":
        """Returns the best point after some descents, counted as if one followed the other.

        Descents after the first descent that reaches the target are not counted.
        """
        reaches = values <= target
        is_target_reached = jnp.any(reaches)
        i = jnp.where(is_target_reached, jnp.argmax(reaches), jnp.argmin(values))
        is_better = values[i] < self.value
        total = jnp.cumsum(evaluations, dtype=jnp.int32)
        last = jnp.where(is_target_reached, i, -1)
        found = self.evaluations + total[i], self.gradients + has_gradients * total[i]
        return Best(
            point=jnp.where(is_better, points[i], self.point),
            value=jnp.where(is_better, values[i], self.value),
            evaluations=self.evaluations + total[last],
            gradients=self.gradients + has_gradients * total[last],
            found_at=jnp.where(is_better, found[0], self.found_at),
            gradients_found_at=jnp.where(is_better, found[1], self.gradients_found_at),
            computed=self.computed + jnp.minimum(computed, 2**31 - 1 - self.computed),
        )


class Island(NamedTuple):
    """State of one of the two searches.

    Attributes:
      gaussian: the distribution.
      population_size: i32[], samples in a generation.
      longest_descent: i32[], evaluations after which a descent is cut off.
      spread: f[], range of the better half of the last generation's values.
      unit: f[], this range in the first generation of the first run.
      polishes: bool[], True if the run has ended. The next round descends from its best point to
        the end.
      run_point: f[n], the best point of the run.
      run_value: f[], the value there.
      stalled: i32[], generations since the run's best value decreased.
      evaluations: i32[], of all runs.
      evaluations_before_run: i32[].
      spent: i32[2], evaluations of the finished runs of each regime.
      regime: i32[], large or small populations.
      doublings: i32[], of the large population.
      restarts: i32[].
    """

    gaussian: cma_es.Gaussian
    population_size: jax.Array
    longest_descent: jax.Array
    spread: jax.Array
    unit: jax.Array
    polishes: jax.Array
    run_point: jax.Array
    run_value: jax.Array
    stalled: jax.Array
    evaluations: jax.Array
    evaluations_before_run: jax.Array
    spent: jax.Array
    regime: jax.Array
    doublings: jax.Array
    restarts: jax.Array


def longest_last_descent(dimension: int) -> int:
    """Returns the largest number of evaluations of a descent at the end of a run."""
    return 100 + 100 * dimension


def begin(center: jax.Array, row: int) -> Island:
    """Returns a search whose first run starts at a point, f[n]."""
    zero, count = jnp.zeros((), center.dtype), jnp.int32(0)
    return Island(
        gaussian=cma_es.begin(center, jnp.asarray(SIGMA[row])),
        population_size=jnp.int32(POPULATION[row] * cma_es.default_population_size(center.size)),
        longest_descent=jnp.int32(_FEWEST if row == MINIMA else 1),
        spread=zero,
        unit=zero,
        polishes=jnp.zeros((), bool),
        run_point=center,
        run_value=zero + jnp.inf,
        stalled=count,
        evaluations=count,
        evaluations_before_run=count,
        spent=jnp.zeros(2, jnp.int32),
        regime=count,
        doublings=count,
        restarts=count,
    )


def advance(
    island: Island,
    row: jax.Array,
    best: Best,
    function: Function,
    key: jax.Array,
    *,
    budget: jax.Array,
    target: jax.Array,
    lanes: int,
    parts: Parts,
) -> tuple[Island, Best]:
    """Returns a search and the best point after one generation, or after the end of a run.

    Args:
      island: the search.
      row: i32[], `MINIMA` or `POINTS`.
      best: the best point so far.
      function: what to minimize.
      key: random key.
      budget: i32[], evaluations of both searches, which are never exceeded.
      target: f[], a value at which no further descent begins.
      lanes: number of descents side by side.
      parts: which parts are on.
    """
    is_over_minima = row == MINIMA
    descends = is_over_minima | island.polishes
    n, dtype = island.run_point.size, island.run_point.dtype
    polishes = island.polishes
    count = jnp.where(polishes, 1, island.population_size)
    side_by_side = jnp.where(polishes, 1, lanes)
    longest = jnp.where(polishes, longest_last_descent(n), island.longest_descent)
    first_step = jnp.where(polishes, FIRST_STEP / 100, FIRST_STEP).astype(dtype)
    tolerance = jnp.where(polishes, 0, _TOLERANCE * island.spread)

    def goes_on(carry: tuple[jax.Array, _Samples, Best]) -> jax.Array:
        first, _, best = carry
        return (first < count) & (best.value > target) & (best.evaluations < budget)

    def descend(carry: tuple[jax.Array, _Samples, Best]) -> tuple[jax.Array, _Samples, Best]:
        first, sampled, best = carry
        rows = first + jnp.arange(lanes, dtype=jnp.int32)
        drawn = cma_es.sample(island.gaussian, jax.random.fold_in(key, first), lanes)
        starts = _reflect(drawn, function.lower, function.upper)
        left = budget - best.evaluations
        is_used = (rows < count) & (rows - first < left)
        points, values, evaluations, computed = jax.lax.cond(
            descends,
            lambda: local_search.descend(
                function.value_and_grad,
                jnp.where(polishes, island.run_point, starts),
                is_used,
                function.lower,
                function.upper,
                first_step=first_step,
                tolerance=tolerance,
                target=target,
                max_evaluations=jnp.clip(left // side_by_side, 1, longest),
            ),
            lambda: (
                starts,
                jax.vmap(function.value)(starts),
                is_used.astype(jnp.int32),
                jnp.int32(lanes),
            ),
        )
        values = jnp.where(is_used & ~jnp.isnan(values), values, jnp.inf)
        best = best.after(
            points, values, evaluations, computed, has_gradients=descends, target=target
        )
        return first + lanes, sampled.put(first, points, values, evaluations), best

    nothing = _Samples.none(island.run_point, lanes)
    before = best.evaluations
    _, sampled, best = jax.lax.while_loop(goes_on, descend, (jnp.int32(0), nothing, best))
    island = island._replace(evaluations=island.evaluations + best.evaluations - before)

    def restarted(island: Island) -> Island:
        return _restarted(island, row, jax.random.fold_in(key, _RESTART), parts)

    def updated() -> Island:
        new = _updated(island, is_over_minima, sampled, parts)
        if parts.last_descents:
            return new
        return jax.lax.cond(new.polishes, restarted, lambda same: same, new)

    return jax.lax.cond(polishes, lambda: restarted(island), updated), best


class _Samples(NamedTuple):
    """Results of a generation's descents, one per row."""

    points: jax.Array
    values: jax.Array
    evaluations: jax.Array

    @classmethod
    def none(cls, mean: jax.Array, lanes: int) -> "_Samples":
        rows = -(-LARGEST_POPULATION // lanes) * lanes
        points = jnp.zeros((rows, mean.size), mean.dtype)
        return cls(points, jnp.full(rows, jnp.inf, mean.dtype), jnp.zeros(rows, jnp.int32))

    def put(self, first: jax.Array, *rows: jax.Array) -> "_Samples":
        return _Samples(
            *(
                jax.lax.dynamic_update_slice_in_dim(old, new, first, 0)
                for old, new in zip(self, rows, strict=True)
            )
        )


def _updated(island: Island, is_over_minima: jax.Array, sampled: _Samples, parts: Parts) -> Island:
    """Returns a search after its distribution has learned from a generation."""
    n, size = island.gaussian.mean.size, island.population_size
    order = jnp.argsort(sampled.values)
    least, median = (sampled.values[order[i]] for i in (0, jnp.maximum(size // 2, 1)))
    spread = jnp.where(jnp.isfinite(median), median - least, 0)
    is_first = (island.restarts == 0) & (island.gaussian.generation == 0)
    unit = jnp.where(is_first | (island.unit == 0), spread, island.unit)
    smallest = jnp.where(is_over_minima, smallest_decrease(unit, least), 0)
    improves = least < island.run_value - smallest
    is_cut_off = (sampled.evaluations >= island.longest_descent) & (jnp.arange(len(order)) < size)
    share = jnp.sum(is_cut_off) / size
    cut_off = jnp.where(share > 0.5, island.longest_descent * 2, island.longest_descent)
    cut_off = jnp.where(share < 0.1, cut_off // 2, cut_off)
    cut_off = jnp.clip(cut_off, _FEWEST, _FEWEST + 10 * n)
    gaussian = island.gaussian._replace(generation=island.gaussian.generation + 1)
    if parts.adaptation:
        gaussian = cma_es.update(
            island.gaussian,
            sampled.points,
            sampled.values,
            size,
            largest_width=1.0,
            limits_lengths=is_over_minima,
        )
    island = island._replace(
        gaussian=gaussian,
        longest_descent=jnp.where(is_over_minima, cut_off, 1),
        spread=spread,
        unit=unit,
        run_point=jnp.where(least < island.run_value, sampled.points[order[0]], island.run_point),
        run_value=jnp.minimum(least, island.run_value),
        stalled=jnp.where(improves, 0, island.stalled + 1),
    )
    return island._replace(polishes=_has_ended(island, is_over_minima))


def _has_ended(island: Island, is_over_minima: jax.Array) -> jax.Array:
    """True if a run has converged, has stalled or cannot go on."""
    n, size = island.gaussian.mean.size, island.population_size

    def of_search(values: tuple[float, float]) -> jax.Array:
        return jnp.where(is_over_minima, values[MINIMA], values[POINTS])

    width = island.gaussian.width
    eps = jnp.finfo(width.dtype).eps
    smallest = jnp.maximum(of_search(_CONVERGED_SPREAD) * island.unit, _rounding(island.run_value))
    patience = jnp.where(is_over_minima, 8 + 20 * n / size, 100 + 100 * n**1.5 / size)
    ended = (island.spread <= smallest) | (
        width < jnp.maximum(of_search(_CONVERGED_WIDTH), 4 * eps)
    )
    return ended | (island.stalled > patience) | ~jnp.isfinite(width)


def _restarted(island: Island, row: jax.Array, key: jax.Array, parts: Parts) -> Island:
    """Returns a search at the start of its next run, in the regime that has spent less."""
    mean = island.gaussian.mean
    draws = jax.random.uniform(key, (mean.size + 2,), mean.dtype)
    center, (size_draw, sigma_draw) = draws[:-2], draws[-2:]
    used = island.evaluations - island.evaluations_before_run
    spent = island.spent.at[island.regime].add(used)
    smallest = jnp.asarray(POPULATION)[row] * cma_es.default_population_size(mean.size)
    regime, doublings, size = island.regime, island.doublings, smallest
    if parts.population_sizes:
        regime, doublings, size = cma_es.next_population(
            spent, island.doublings, size_draw, smallest=smallest, largest=LARGEST_POPULATION
        )
    powers = jnp.asarray(SMALLEST_SIGMA)[row] * sigma_draw
    is_large = regime == cma_es.LARGE
    sigma = jnp.asarray(SIGMA)[row] * jnp.where(is_large, 1, 10.0**-powers)
    return Island(
        gaussian=cma_es.begin(center, sigma),
        population_size=size.astype(jnp.int32),
        longest_descent=jnp.where(row == MINIMA, _FEWEST, 1).astype(jnp.int32),
        spread=_FIRST_SPREAD * island.unit,
        unit=island.unit,
        polishes=jnp.zeros((), bool),
        run_point=center,
        run_value=jnp.full_like(island.run_value, jnp.inf),
        stalled=jnp.zeros_like(island.stalled),
        evaluations=island.evaluations,
        evaluations_before_run=island.evaluations,
        spent=spent,
        regime=regime,
        doublings=doublings,
        restarts=island.restarts + 1,
    )


def _reflect(points: jax.Array, lower: jax.Array, upper: jax.Array) -> jax.Array:
    """Returns points mirrored at the bounds, as often as needed."""
    width = upper - lower
    is_box = jnp.isfinite(width)
    period = jnp.where(is_box, 2 * width, 1)
    inside = jnp.mod(points - lower, period)
    inside = lower + jnp.minimum(inside, period - inside)
    above = jnp.where(points < lower, 2 * lower - points, points)
    one_sided = jnp.where(points > upper, 2 * upper - points, above)
    return jnp.clip(jnp.where(is_box, inside, one_sided), lower, upper)


def smallest_decrease(unit: jax.Array, value: jax.Array) -> jax.Array:
    """Returns the decrease of a value that counts, in relation to a range of values."""
    return jnp.maximum(1e-9 * unit, _rounding(value))


def _rounding(value: jax.Array) -> jax.Array:
    return 20 * jnp.finfo(value.dtype).eps * jnp.abs(value)
