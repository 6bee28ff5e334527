"""CMA-ES, as a rule: agents are the samples of a Gaussian distribution that learns from them.

    x_i ~ m + sigma N(0, C),    m, sigma and C learn from the ranks of the values (CMA-ES)

A sample outside of the problem's bounds is evaluated where it is moved into them. The distribution
learns from the sample itself: moved samples would seem to come from a narrower distribution, and C
would collapse at a corner. The farther a sample is outside, the lower is its rank. Only ranks and
standard deviations count, so that the search does not depend on the units of values.

Agents descend from their samples, with a new optimizer state. The best point of each descent takes
the place of the sample. If an agent has moved, its point was not drawn from the distribution; its
Mahalanobis length is then limited, so that it moves the mean by no more than a long sample does.

One agent of a generation can be placed at a gradient step from the mean in the metric of C, which
CMA-ES adapts to the inverse of the Hessian matrix:

    x_1 = m - a C g,    a = min(s^T C^-1 s / s^T y, sqrt(n) sigma / |C^1/2 g|)

where s and y are the last differences of means and of their gradients (Barzilai and Borwein). On a
quadratic function, a C then approaches the inverse Hessian. The second bound is the typical length
of a sample; it alone holds at the start and where the curvature along s is negative.

Populations of restarts are multiples of the number of agents: a generation is collected over
several rungs, from samples of the same distribution.

Sources: N. Hansen, 2016, arXiv:1604.00772; N. Hansen, 2011, RR-7748 (points that are injected);
A. Auger and N. Hansen, 2005, CEC (IPOP); N. Hansen, 2009, GECCO workshop on BBOB (BIPOP).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxdescent import covariance_adaptation, validation
from jaxdescent.agents.population import Population, place_agents
from jaxdescent.agents.rule import Rule
from jaxdescent.covariance_adaptation import Gaussian
from jaxdescent.evolution.rows import as_rows, not_pruned
from jaxdescent.numerics import norm
from jaxdescent.problem import Problem

LEAST_AGENTS = 4
"""Two samples that move the mean, and two with negative weights in the covariance matrix."""

LARGEST_DIMENSION = 2_000
"""The covariance matrix is decomposed once in each generation, in time of order n^3."""

SMALLEST_SIGMA = 2.0
"""Runs of BIPOP with small populations start with a deviation that is smaller by up to this many
powers of 10."""

PENALTY = 0.25
"""Part of the population by which a sample ranks lower for each squared standard deviation by which
it is outside of the bounds."""

_CONVERGED = 1e-12  # width of the distribution at which a run ends, relative to the first sigma


class Generations(NamedTuple):
    """State of `cma_es`. Points are in widths of the problem's box.

    Attributes:
      gaussian: the distribution.
      drawn: f[agents, n], the last samples, which may be outside of the problem's bounds.
      placed: f[agents, n], the same moved into the bounds, in the problem's coordinates.
      members: bool[agents], True for agents that no other rule has pruned.
      points: f[rows, n], samples of this generation so far, after their descents.
      costs: f[rows], their costs; inf in rows that are not filled.
      violations: f[rows], squared distances from the bounds, each coordinate in units of the
        standard deviation.
      foreign: bool[rows], True for points that the distribution did not draw.
      filled: i32[], number of samples so far.
      population_size: i32[], number of samples after which the distribution learns.
      is_first: bool[], True until the first rung has ended, whose points are the starts.
      first_mean: f[n], the mean at the start of the first run.
      run_cost: f[], the least cost of the run.
      stalled: i32[], generations since the run's least cost decreased.
      run_samples: i32[], number of samples of the run.
      spent: i32[2], samples of finished runs with large and with small populations.
      regime: i32[], `covariance_adaptation.LARGE` or `SMALL`.
      doublings: i32[], of the large population.
      restarts: i32[].
      slope: the mean at which the last gradient was computed and this gradient, two f[n]; () if
        gradients are not injected.
    """

    gaussian: Gaussian
    drawn: jax.Array
    placed: jax.Array
    members: jax.Array
    points: jax.Array
    costs: jax.Array
    violations: jax.Array
    foreign: jax.Array
    filled: jax.Array
    population_size: jax.Array
    is_first: jax.Array
    first_mean: jax.Array
    run_cost: jax.Array
    stalled: jax.Array
    run_samples: jax.Array
    spent: jax.Array
    regime: jax.Array
    doublings: jax.Array
    restarts: jax.Array
    slope: Any


class CmaEs(NamedTuple):
    """Info that `cma_es` reports.

    Attributes:
      sigma: f[], the standard deviation along the longest axis of the distribution, in widths of
        the problem's box.
      axis_ratio: f[], the longest axis divided by the shortest.
      generation: i32[], number of generations of this run from which the distribution has learned.
      population_size: i32[], number of samples in a generation.
      restarts: i32[], number of runs before this one.
    """

    sigma: jax.Array
    axis_ratio: jax.Array
    generation: jax.Array
    population_size: jax.Array
    restarts: jax.Array


def cma_es(
    *,
    sigma: float = 0.3,
    inject_gradient: bool = False,
    restarts: Literal["ipop", "bipop"] | None = None,
    max_doublings: int = 6,
) -> Rule:
    """Samples agents from a Gaussian distribution that learns from the ranks of their values.

    A generation has as many samples as there are agents. The mean of the better half of the starts
    is the first mean: to start at a point x, give `init_params` with x for every agent.

    A rung without steps evaluates each agent once, which is plain CMA-ES. `jd.minimize` has only
    such rungs if `gradient_budget` is `num_agents * num_rungs`; with
    `estimator=jd.estimators.value_only()`, gradients are not computed. In longer rungs the
    optimizer descends from each sample, and the distribution learns from the points that it
    reaches, with limited lengths.

    Only the order of values counts, apart from restarts and the length of an injected gradient
    step. A value that is not finite ranks last; a generation without finite values changes nothing.
    A sample outside of the problem's bounds has the value of the point where it is moved into them.
    It ranks lower by a quarter of the population for each squared standard deviation of its
    distance.

    A run ends when its distribution or its values have converged, or its best value has not
    decreased for long. Without restarts all agents are then removed. Runs of "ipop" begin at
    a new start of the problem with twice the population; along coordinates where the problem has no
    finite box, they begin at the first mean. In "bipop" they alternate with runs that have smaller
    populations and deviations, so that both get the same number of samples.

    In a chain, put rules that prune, and `jd.pruning.until`, before this rule.

    Args:
      sigma: the first standard deviation, in widths of the problem's box if it is finite; above 0.
      inject_gradient: whether the first agent of each generation is placed at a gradient step from
        the mean. The gradient is exact with every estimator, and counts as one
        evaluation of this agent; a `gradient_budget` does not include it.
      restarts: what follows the end of a run: None, "ipop" or "bipop".
      max_doublings: the largest population of a restart is `2**max_doublings * num_agents`; an
        integer in [0, 16].

    Raises:
      ValueError: an argument is out of its range; at the start, there are fewer than four agents or
        more than 2,000 coordinates; `restarts` is given in `jd.fit`, which cannot draw starts.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> problem = jd.problems.rosenbrock(5)
      >>> result = jd.minimize(
      ...     problem, optax.sgd(0.0), estimator=jd.estimators.value_only(), num_agents=8,
      ...     gradient_budget=8 * 400, num_rungs=400, rule=jd.evolution.cma_es())
      >>> bool(result.value - problem.minimum < 1e-6), result.gradients
      (True, 0)
    """
    sigma = validation.number_between("sigma", sigma, 0.0, float("inf"))
    if not isinstance(inject_gradient, bool):
        raise ValueError(f"inject_gradient must be True or False, got {inject_gradient!r}")
    if restarts not in (None, "ipop", "bipop"):
        raise ValueError(f"restarts must be None, 'ipop' or 'bipop', got {restarts!r}")
    max_doublings = validation.integer_in("max_doublings", max_doublings, 0, 16)
    growth = 1 if restarts is None else 2**max_doublings

    def init(_key: jax.Array, population: Population, _problem: Problem) -> Generations:
        count = len(population.ids)
        if count < LEAST_AGENTS:
            raise ValueError(
                f"num_agents must be at least {LEAST_AGENTS} for cma_es, the samples of a "
                f"generation, got {count}"
            )
        return _begin(population, sigma, count * growth, inject_gradient)

    def update(key: jax.Array, population: Population, problem: Problem, old: Generations) -> Any:
        restart_key, sample_key = jax.random.split(key)
        units = _Units.of(population, problem)
        state = old._replace(members=not_pruned(population, old.members))
        points, costs, foreign = _results(population, state, units)
        state = _collected(state, points, costs, foreign, units)
        is_full = state.filled >= state.population_size
        state, ended = jax.lax.cond(
            is_full,
            lambda: _learned(state, jnp.max(units.upper - units.lower), _CONVERGED * sigma),
            lambda: (state, jnp.zeros((), bool)),
        )
        mean = _mean_of_better_half(points, costs, state.members)
        start = _started(state, mean, sigma)._replace(first_mean=mean)
        state = optax.tree.where(old.is_first, start, state)
        if restarts is None:
            state = state._replace(members=state.members & ~ended)
            population = population._replace(alive=population.alive & ~ended)
        else:
            restart = partial(_restarted, sigma=sigma, alternates=restarts == "bipop")
            state = jax.lax.cond(
                ended,
                lambda: restart(state, restart_key, problem, units, len(points)),
                lambda: state,
            )
        drawn = covariance_adaptation.sample(state.gaussian, sample_key, len(points))
        if inject_gradient:
            begins = (is_full | old.is_first) & jnp.any(state.members)
            first = jnp.argmax(state.members)
            point, slope = jax.lax.cond(
                begins,
                lambda: _gradient_step(state, drawn[first], problem, units),
                lambda: (drawn[first], state.slope),
            )
            drawn, state = drawn.at[first].set(point), state._replace(slope=slope)
            population = population._replace(
                evaluations=population.evaluations.at[first].add(begins.astype(jnp.int32)),
                gradients=population.gradients.at[first].add(begins.astype(jnp.int32)),
            )
        population = place_agents(population, state.members, units.params(drawn), problem)
        state = state._replace(drawn=drawn, placed=units.rows(population.params))
        return population, state, _info(state)

    return Rule(init, update)


class _Units(NamedTuple):
    """The problem's box, and parameters as rows.

    Points are in widths of the box. They are not centered, which would round points near 0.
    """

    to_params: Callable[[jax.Array], Any]
    scale: jax.Array
    lower: jax.Array  # bounds, in widths of the box; they may be infinite
    upper: jax.Array

    @classmethod
    def of(cls, population: Population, problem: Problem) -> "_Units":
        rows, to_params = as_rows(population.params)
        scale = ravel_pytree(problem.scale)[0].astype(_dtype(rows))
        lower, upper = (_row(side, scale) for side in (problem.lower, problem.upper))
        if problem.bounds is None:
            lower, upper = jnp.full_like(scale, -jnp.inf), jnp.full_like(scale, jnp.inf)
        return cls(to_params, scale, lower, upper)

    def rows(self, params: Any) -> jax.Array:
        """Returns f[agents, n], in the problem's coordinates."""
        return as_rows(params)[0].astype(self.scale.dtype)

    def params(self, points: jax.Array) -> Any:
        """Returns the parameters at points f[agents, n]."""
        # The barrier rounds them once, so that they are equal wherever they are used.
        return self.to_params(jax.lax.optimization_barrier(points * self.scale))


def _row(side: Any, scale: jax.Array) -> jax.Array:
    """Returns a side of the problem's box as f[n], in units of the scale."""
    return ravel_pytree(jax.tree.map(jnp.asarray, side))[0].astype(scale.dtype) / scale


def _dtype(rows: jax.Array) -> Any:
    return jnp.promote_types(rows.dtype, jnp.float32)


def _begin(
    population: Population, sigma: float, largest: int, inject_gradient: bool
) -> Generations:
    """Returns the state before the first rung."""
    rows, _ = as_rows(population.params)
    rows = rows.astype(_dtype(rows))
    count, n = rows.shape
    if n > LARGEST_DIMENSION:
        raise ValueError(
            f"params must have at most {LARGEST_DIMENSION} coordinates for cma_es, whose "
            f"covariance matrix has a row for each, got {n}; use consensus instead"
        )
    zero, infinite = jnp.int32(0), jnp.full_like(population.values[0], jnp.inf)
    return Generations(
        gaussian=covariance_adaptation.begin(jnp.zeros_like(rows[0]), jnp.asarray(sigma)),
        drawn=jnp.zeros_like(rows),
        placed=jnp.full_like(rows, jnp.nan),  # the starts were not drawn
        members=population.alive,
        points=jnp.zeros((largest, n), rows.dtype),
        costs=jnp.full(largest, infinite),
        violations=jnp.zeros(largest, rows.dtype),
        foreign=jnp.zeros(largest, bool),
        filled=zero,
        population_size=jnp.int32(count),
        is_first=jnp.ones((), bool),
        first_mean=jnp.zeros_like(rows[0]),
        run_cost=infinite,
        stalled=zero,
        run_samples=zero,
        spent=jnp.zeros(2, jnp.int32),
        regime=jnp.int32(covariance_adaptation.LARGE),
        doublings=zero,
        restarts=zero,
        slope=(jnp.zeros_like(rows[0]), jnp.zeros_like(rows[0])) if inject_gradient else (),
    )


def _results(
    population: Population, state: Generations, units: _Units
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the points that agents reached, f[agents, n], their costs, and which have moved."""
    rows = units.rows(population.best_params)
    foreign = jnp.any(rows != state.placed, axis=1)
    points = jnp.where(foreign[:, None], rows / units.scale, state.drawn)
    is_known = state.members & jnp.isfinite(population.best_values)
    return points, jnp.where(is_known, population.best_costs, jnp.inf), foreign


def _collected(
    state: Generations, points: jax.Array, costs: jax.Array, foreign: jax.Array, units: _Units
) -> Generations:
    """Returns the state with the samples of one rung; starts are not samples."""
    outside = points - jnp.clip(points, units.lower, units.upper)
    deviations = state.gaussian.sigma * jnp.sqrt(jnp.diagonal(state.gaussian.covariance))
    violations = jnp.sum((outside / deviations) ** 2, axis=1)
    counts = state.members & ~state.is_first
    places = state.filled + jnp.cumsum(counts, dtype=jnp.int32) - 1
    places = jnp.where(counts, places, len(state.costs))
    added = jnp.sum(counts, dtype=jnp.int32)
    return state._replace(
        points=state.points.at[places].set(points, mode="drop"),
        costs=state.costs.at[places].set(costs, mode="drop"),
        violations=state.violations.at[places].set(violations, mode="drop"),
        foreign=state.foreign.at[places].set(foreign, mode="drop"),
        filled=jnp.minimum(state.filled + added, len(state.costs)),
        run_samples=state.run_samples + added,
    )


def _learned(
    state: Generations, largest_width: jax.Array, smallest_width: float
) -> tuple[Generations, jax.Array]:
    """Returns the state after a whole generation, and bool[], True if the run has ended."""
    old, costs, size = state.gaussian, state.costs, state.filled
    has_place = jnp.all(jnp.isfinite(state.points), axis=1) & (jnp.arange(len(costs)) < size)
    rank = jnp.argsort(jnp.argsort(costs))
    penalized = rank + PENALTY * size * state.violations
    learned = covariance_adaptation.update(
        old,
        jnp.where(has_place[:, None], state.points, old.mean),
        jnp.where(jnp.isfinite(costs), penalized, jnp.inf),
        size,
        largest_width=largest_width,
        limits_lengths=state.foreign,
    )
    gaussian = optax.tree.where(jnp.any(jnp.isfinite(costs)), learned, old)
    ordered = jnp.sort(costs)
    least = ordered[0]
    spread = ordered[jnp.maximum(size // 2 - 1, 0)] - least  # inf or NaN if not finite
    stalled = jnp.where(least < state.run_cost, 0, state.stalled + 1)
    n, dtype = old.mean.size, old.mean.dtype
    rounding = 4 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(gaussian.mean))
    ended = gaussian.width <= jnp.maximum(smallest_width, rounding)
    ended |= ~jnp.isfinite(gaussian.width)
    is_flat = spread <= 20 * jnp.finfo(costs.dtype).eps * jnp.abs(least)
    ended |= is_flat & (stalled > 10 + 30 * n / size)
    ended |= stalled > 100 + 100 * n**1.5 / size
    state = state._replace(
        gaussian=gaussian,
        costs=jnp.full_like(costs, jnp.inf),
        filled=jnp.zeros_like(size),
        run_cost=jnp.minimum(least, state.run_cost),
        stalled=stalled,
    )
    return state, ended


def _mean_of_better_half(points: jax.Array, costs: jax.Array, members: jax.Array) -> jax.Array:
    """Returns f[n], the mean of the better half of the members; of all if no cost is finite."""
    is_finite = jnp.isfinite(costs)
    half = jnp.maximum(jnp.sum(members) // 2, 1)
    rank = jnp.argsort(jnp.argsort(costs))
    chosen = jnp.where(jnp.any(is_finite), (rank < half) & is_finite, members)
    usable = chosen & jnp.all(jnp.isfinite(points), axis=1)
    total = jnp.sum(jnp.where(usable[:, None], points, 0), axis=0)
    return total / jnp.maximum(jnp.sum(usable), 1)


def _started(state: Generations, mean: jax.Array, sigma: jax.Array | float) -> Generations:
    """Returns the state at the start of a run."""
    infinite = jnp.full_like(state.run_cost, jnp.inf)
    return state._replace(
        gaussian=covariance_adaptation.begin(mean, jnp.asarray(sigma)),
        costs=jnp.full_like(state.costs, jnp.inf),
        filled=jnp.zeros_like(state.filled),
        is_first=jnp.zeros_like(state.is_first),
        run_cost=infinite,
        stalled=jnp.zeros_like(state.stalled),
        run_samples=jnp.zeros_like(state.run_samples),
        slope=jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), state.slope),
    )


def _restarted(
    state: Generations,
    key: jax.Array,
    problem: Problem,
    units: _Units,
    num_agents: int,
    *,
    sigma: float,
    alternates: bool,
) -> Generations:
    """Returns the state at the start of the next run."""
    mean_key, draw_key = jax.random.split(key)
    size_draw, sigma_draw = jax.random.uniform(draw_key, (2,))
    spent = state.spent.at[state.regime].add(state.run_samples)
    less_by_large = jnp.array([0, 1], jnp.int32)
    regime, doublings, size = covariance_adaptation.next_population(
        spent if alternates else less_by_large,
        state.doublings,
        size_draw,
        smallest=num_agents,
        largest=len(state.costs),
    )
    power = jnp.where(regime == covariance_adaptation.SMALL, -SMALLEST_SIGMA * sigma_draw, 0)
    mean = _drawn_start(mean_key, problem, units.scale, state.first_mean)
    rungs = jnp.ceil(size / num_agents).astype(jnp.int32)
    return _started(state, mean, sigma * 10.0**power)._replace(
        population_size=rungs * num_agents,
        spent=spent,
        regime=regime,
        doublings=doublings,
        restarts=state.restarts + 1,
    )


def _drawn_start(
    key: jax.Array, problem: Problem, scale: jax.Array, otherwise: jax.Array
) -> jax.Array:
    """Returns f[n], a start of the problem; `otherwise` along coordinates without a finite box."""
    if problem.sample_fn is not None:
        drawn = ravel_pytree(problem.sample(key))[0].astype(scale.dtype) / scale
    else:
        low, high = (_row(side, scale) for side in problem.start_box)
        drawn = low + jax.random.uniform(key, low.shape, low.dtype) * (high - low)
    return jnp.where(jnp.isfinite(drawn), drawn, otherwise)


def _gradient_step(
    state: Generations, otherwise: jax.Array, problem: Problem, units: _Units
) -> tuple[jax.Array, Any]:
    """Returns a point downhill of the mean, or another where no gradient is usable, and the slope.

    Args:
      state: the state at the start of a generation.
      otherwise: f[n], the other point.
      problem: what to minimize.
      units: of the points.
    """
    mean, basis, axes = state.gaussian.mean, state.gaussian.basis, state.gaussian.axes

    def value(point: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda x: x[0], units.params(point[None]))
        return problem.value(problem.into_bounds(params))

    grad = jax.grad(value)(mean)
    size = jnp.max(jnp.abs(grad))
    is_usable = jnp.isfinite(size) & (size > 0)
    last_mean, last_grad = state.slope
    along = (basis.T @ (mean - last_mean)) / axes
    curvature = jnp.dot(mean - last_mean, grad / size - last_grad / size)
    whitened = axes * (basis.T @ (grad / size))
    longest = mean.size**0.5 * state.gaussian.sigma / norm(whitened)
    newton = along @ along / curvature
    step = jnp.where(newton > 0, jnp.minimum(newton, longest), longest)
    point = mean - step * (basis @ (axes * whitened))
    is_usable &= jnp.all(jnp.isfinite(point))
    return jnp.where(is_usable, point, otherwise), (mean, grad)


def _info(state: Generations) -> CmaEs:
    gaussian = state.gaussian
    return CmaEs(
        sigma=gaussian.width,
        axis_ratio=jnp.max(gaussian.axes) / jnp.min(gaussian.axes),
        generation=gaussian.generation,
        population_size=state.population_size,
        restarts=state.restarts,
    )
