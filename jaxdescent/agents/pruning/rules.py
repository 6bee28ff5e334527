"""Rules that only prune: they clear `alive` and change nothing else.

The published method (M. Sakka, M. Bahrami 2025, Applied Sciences 15(4) 2008) "removes
underperforming agents" by a rule that its public text does not give. The rules here are other
policies, and `adaptive`, the default, is ours.

Sources: Z. Karnin et al. 2013 (successive halving); K. Jamieson, A. Talwalkar 2016,
arXiv:1502.07943 (the same for training); T. Domhan et al. 2015 (prediction of learning curves).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.agents.population import Population
from jaxdescent.agents.pruning.ranks import rank_correlation, ranks
from jaxdescent.agents.pruning.selection_risk import share_to_keep
from jaxdescent.agents.rule import Rule
from jaxdescent.numerics import at_least_float32

DEFAULT_CORRELATION = 0.5
"""Correlation that `adaptive` assumes before it has measured one."""


class Pruned(NamedTuple):
    """Info that a pruning rule reports.

    Attributes:
      pruned: i32[], number of agents pruned.
    """

    pruned: jax.Array


def successive_halving(
    eta: float = 2.0, *, min_agents: int = 1, by: Literal["value", "best"] = "value"
) -> Rule:
    """Keeps the best 1 / eta of the alive agents, rounded up.

    Args:
      eta: in (1, inf).
      min_agents: least number of agents to keep.
      by: whether to rank agents by their present values or by their best values so far.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> box = jnp.ones(2)
      >>> problem = jd.Problem(lambda x: jnp.sum(x**2), -box, box)
      >>> rule = jd.pruning.successive_halving()
      >>> result = jd.minimize(
      ...     problem, optax.sgd(0.025), num_agents=8, steps=40, num_rungs=4, rule=rule)
      >>> result.history.survivors.tolist()
      [4, 2, 1, 1]
    """
    eta = validation.number_between("eta", eta, 1.0, np.inf)
    validation.integer_in("min_agents", min_agents, 1)
    scores_of = _scores_by(by)

    def keep(population: Population, _: None) -> tuple[jax.Array, None]:
        alive = jnp.sum(population.alive).astype(jnp.float32)
        kept = jnp.maximum(jnp.ceil(alive / jnp.float32(eta)), min_agents).astype(jnp.int32)
        return ranks(scores_of(population)) < kept, None

    return _rule(lambda _: None, keep)


def gap_to_best(tolerance: float = 1.0) -> Rule:
    """Prunes agents whose value exceeds the best by more than `tolerance` times the spread.

    The spread is the distance from the best value to the median at the first rung, so that the rule
    does not depend on the units of the loss. If most agents share the best value, it is the
    distance to the median of the others. If all share it, no agent is pruned and the spread is
    measured at the next rung. The best agent is always kept.

    Args:
      tolerance: in (0, inf).

    Raises:
      ValueError: `tolerance` is out of its range.
    """
    tolerance = validation.number_between("tolerance", tolerance, 0.0, np.inf)

    def init(population: Population) -> jax.Array:
        return jnp.full((), jnp.nan, population.values.dtype)

    def keep(population: Population, spread: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = population.scores
        best = jnp.min(scores)

        def median(selected: jax.Array) -> jax.Array:
            return jnp.nanmedian(jnp.where(selected, scores, jnp.nan))

        finite = jnp.isfinite(scores)
        now = median(finite) - best
        now = jnp.where(now > 0, now, median(finite & (scores > best)) - best)
        spread = jnp.where(jnp.isnan(spread), now, spread)
        # The spread is NaN before it is measured, and comparisons with NaN are False.
        return ~(scores > best + tolerance * spread), spread

    return _rule(init, keep)


def stalled(patience: int = 3, *, horizon: float = 30.0) -> Rule:
    """Prunes agents that would need more than `horizon` rungs to reach the present best value.

    An agent's speed is its mean progress per rung over the last `patience` rungs. The best agent is
    always kept.

    Args:
      patience: number of rungs over which progress is measured, at least 1.
      horizon: number of rungs, in (0, inf).

    Raises:
      ValueError: an argument is out of its range.
    """
    validation.integer_in("patience", patience, 1)
    horizon = validation.number_between("horizon", horizon, 0.0, np.inf)

    def init(population: Population) -> jax.Array:
        """Returns the values of the last rungs, f[patience, agents], the oldest first."""
        return jnp.full((patience, *population.values.shape), jnp.nan, population.values.dtype)

    def keep(population: Population, earlier: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = population.scores
        earlier = jnp.where(population.evaluated, earlier, jnp.nan)
        speed = (earlier[0] - scores) / patience
        # Values before an agent's start are NaN, and comparisons with NaN are False.
        slow = scores - jnp.min(scores) > horizon * jnp.maximum(speed, 0.0)
        slow &= ~jnp.isnan(earlier[0])
        seen = jnp.where(population.evaluated, scores, jnp.nan)
        return ~slow, jnp.concatenate([earlier[1:], seen[None]])

    return _rule(init, keep)


class _Curves(NamedTuple):
    """Running least-squares sums of each agent's loss curve since it was last placed.

    All are f[agents], except the number of rungs so far.
    """

    rung: jax.Array
    count: jax.Array  # rungs in the curve
    mean_x: jax.Array  # of x = log(rung)
    var_x: jax.Array  # sum of squares about the mean
    mean_y: jax.Array  # of the values
    deviation_y: jax.Array  # root of the sum of squares, which could overflow
    cov: jax.Array


def predicted_to_lose(total_rungs: int, *, burn_in: int = 3, deviations: float = 2.0) -> Rule:
    """Prunes agents whose loss curve, extrapolated to the last rung, misses the present best value.

    The curve is a least-squares line in the logarithm of the rung over all rungs so far. Its
    extrapolation to `total_rungs` is lowered by `deviations` standard deviations of the
    prediction: a margin for curves that later fall faster than such a line. The best agent is
    always kept.

    Args:
      total_rungs: number of rungs of the whole run.
      burn_in: number of rungs before the first pruning, at least 3, because two define a line.
      deviations: at least 0.

    Raises:
      ValueError: an argument is out of its range.
    """
    validation.integer_in("burn_in", burn_in, 3)
    validation.integer_in("total_rungs", total_rungs, burn_in)
    deviations = validation.number_in("deviations", deviations, 0.0, np.inf)

    def init(population: Population) -> _Curves:
        values = population.values
        zeros = jnp.zeros(values.shape, at_least_float32(values.dtype))
        zero = jnp.zeros((), zeros.dtype)
        return _Curves(zero, *(zeros,) * 6)

    def keep(population: Population, old: _Curves) -> tuple[jax.Array, _Curves]:
        rung, n = old.rung + 1, old.count + 1
        x = jnp.log(rung)
        y = population.costs.astype(at_least_float32(population.costs.dtype))
        dx, dy = x - old.mean_x, y - old.mean_y
        new = _Curves(  # Welford's update, for the covariance too
            rung=rung,
            count=n,
            mean_x=old.mean_x + dx / n,
            var_x=old.var_x + dx * dx * (n - 1) / n,
            mean_y=old.mean_y + dy / n,
            deviation_y=jnp.hypot(old.deviation_y, dy * jnp.sqrt((n - 1) / n)),
            cov=old.cov + dx * dy * (n - 1) / n,
        )
        var_x = jnp.maximum(new.var_x, 1e-12)
        slope = new.cov / var_x
        ahead = jnp.maximum(jnp.log(jnp.asarray(total_rungs, y.dtype)), x) - new.mean_x
        explained = jnp.abs(new.cov) / jnp.sqrt(var_x)
        unexplained = jnp.maximum(new.deviation_y - explained, 0.0)
        residual = jnp.sqrt(unexplained) * jnp.sqrt(new.deviation_y + explained)
        factor = (1 + 1 / n + ahead**2 / var_x) / jnp.maximum(n - 2, 1.0)
        spread = residual * jnp.sqrt(factor)
        predicted = new.mean_y + slope * ahead - deviations * spread
        scores = population.scores
        best = jnp.min(scores)
        # The prediction is NaN if a value is not finite, and comparisons with NaN are False.
        kept = (n < burn_in) | ~(predicted > best) | (scores == best)
        started = jax.tree.map(lambda curve: jnp.where(population.evaluated, curve, 0), new)
        return kept, started._replace(rung=rung)

    return _rule(init, keep)


class _Scores(NamedTuple):
    """Scores at two rungs; at the second, agents are at least twice as old as at the first."""

    age: jax.Array  # i32[], age of the agents at the second rung
    earlier: jax.Array  # f[agents], NaN before it is known
    later: jax.Array


def adaptive(
    risk: float = 0.1, *, max_eta: float = 4.0, by: Literal["value", "best"] = "value"
) -> Rule:
    """Keeps the fewest agents that include the final best one with probability 1 - `risk`.

    This is the default rule. Ranks are compared as normal scores (Gaussian quantiles of the ranks).
    The correlation r of current ranks with the ranks at half the current age or before measures how
    well early ranks have predicted later ones. The rule assumes that current ranks predict the
    ranks at twice the age equally well. Before the first measurement it assumes r = 0.5. If ranks
    follow a Gaussian copula with this correlation, the agent with the lowest final value is, with
    probability 1 - risk, among the best fraction

        Phi(r m + sqrt(1 - r^2) Phi^-1(1 - risk)),    m = Phi^-1(0.625 / (N + 0.25))

    of the N agents. While ranks still change, nearly all agents are kept. Once they are stable, all
    but a few are pruned, at most 1 - 1 / max_eta of the alive agents at a rung. The risk applies to
    each rung separately, and runs may continue beyond twice the age. `jaxdescent/agents/THEORY.md`
    derives the rule, and shows functions on which it prunes the final best agent more often than
    the copula predicts.

    Args:
      risk: in (0, 0.5).
      max_eta: in (1, inf].
      by: whether to rank agents by their present values or by their best values so far.

    Raises:
      ValueError: an argument is out of its range.
    """
    risk = validation.number_between("risk", risk, 0.0, 0.5)
    max_eta = float(validation.positive_number("max_eta", max_eta, infinite=True))
    if max_eta <= 1:
        raise ValueError(f"max_eta must be in (1, inf], got {max_eta}")
    scores_of = _scores_by(by)

    def init(population: Population) -> _Scores:
        unknown = jnp.full_like(population.values, jnp.nan)
        return _Scores(jnp.zeros((), population.age.dtype), unknown, unknown)

    def keep(population: Population, old: _Scores) -> tuple[jax.Array, _Scores]:
        scores = scores_of(population)
        num_alive = jnp.sum(jnp.isfinite(scores))
        age = jnp.max(jnp.where(population.alive, population.age, 0))
        doubled = age >= 2 * old.age
        earlier = jnp.where(doubled, old.later, old.earlier)
        r = jnp.where(
            jnp.all(jnp.isnan(earlier)), DEFAULT_CORRELATION, rank_correlation(earlier, scores)
        )
        share = share_to_keep(r, num_alive, risk)
        kept = jnp.ceil(num_alive.astype(share.dtype) * jnp.maximum(share, 1 / max_eta))
        later = jnp.where(doubled, scores, old.later)

        def forget_placed(x: jax.Array) -> jax.Array:
            return jnp.where(population.evaluated, x, jnp.nan)

        new = _Scores(
            age=jnp.where(doubled, age, old.age),
            earlier=forget_placed(earlier),
            later=forget_placed(later),
        )
        return ranks(scores) < kept.astype(jnp.int32), new

    return _rule(init, keep)


def _scores_by(by: str) -> Callable[[Population], jax.Array]:
    """Returns a function of a population that returns the scores by which agents are ranked."""
    if not isinstance(by, str) or by not in ("value", "best"):
        raise ValueError(f"by must be 'value' or 'best', got {by!r}")
    return lambda population: population.scores if by == "value" else population.best_scores


def no_pruning() -> Rule:
    """Keeps every agent whose value is finite: plain multistart."""
    return _rule(lambda _: None, lambda population, _: (population.alive, None))


def until(target: float) -> Rule:
    """Ends the run once an agent has had a value as good as `target`, by removing all agents.

    That is a value of at most `target`, or of at least `target` in a fit with `mode="max"`. Chain
    it with a rule that prunes. The result contains the best point.

    Args:
      target: a finite number.

    Raises:
      ValueError: `target` is not finite.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> box = jnp.ones(2)
      >>> bowl = jd.Problem(lambda x: jnp.sum(x**2), -box, box)
      >>> result = jd.minimize(
      ...     bowl, optax.sgd(0.025), num_agents=8, steps=1_000, steps_per_rung=10,
      ...     rule=jd.pruning.until(1e-6))
      >>> bool(result.value <= 1e-6), result.gradients < 8 * 100
      (True, True)
    """
    target = validation.number_between("target", target, -np.inf, np.inf)

    def keep(population: Population, _: None) -> tuple[jax.Array, None]:
        best = population.best_values
        good = jnp.where(population.maximize, best >= target, best <= target)
        return population.alive & ~jnp.any(jnp.isfinite(best) & good), None

    return _rule(lambda _: None, keep)


def _rule(init: Any, keep: Any) -> Rule:
    """Returns a rule that prunes agents not kept by `keep(population, state)`.

    `keep` returns (bool[agents], state). Agents that are not evaluated are kept.
    """

    def update(_key: jax.Array, population: Population, _problem: Any, state: Any) -> Any:
        kept, state = keep(population, state)
        kept |= ~population.evaluated
        alive = population.alive & kept
        pruned = jnp.sum(population.alive & ~kept, dtype=jnp.int32)
        return population._replace(alive=alive), state, Pruned(pruned)

    return Rule(lambda _key, population, _problem: init(population), update)
