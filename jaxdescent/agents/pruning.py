"""Which agents to remove: rules that only clear `alive`.

Values are compared as they stand at the end of a rung; an agent whose value is not finite is
removed before any rule looks, and one that a rule has just placed somewhere stays until it has a
value there. The published method (M. Sakka, M. Bahrami 2025, Applied Sciences
15(4) 2008) "removes underperforming agents" by a rule that its public text does not give: each
rule here is a policy of its own, and `adaptive`, the default, is ours.

Sources: Z. Karnin et al. 2013 (successive halving); K. Jamieson, A. Talwalkar 2016,
arXiv:1502.07943 (the same for training); T. Domhan et al. 2015 (prediction of learning curves).
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.agents import winners
from jaxdescent.agents.population import Population
from jaxdescent.agents.ranks import normal_scores as normal_scores
from jaxdescent.agents.ranks import precise
from jaxdescent.agents.ranks import rank_correlation as rank_correlation
from jaxdescent.agents.ranks import ranks as ranks
from jaxdescent.agents.rules import Rule
from jaxdescent.agents.rules import chain as chain
from jaxdescent.agents.rules import delay as delay
from jaxdescent.agents.winners import prob_best_pruned as prob_best_pruned

By = Literal["value", "best"]
"""What agents are ranked by: their present values, or the least that each has had."""


class Pruned(NamedTuple):
    """What a pruning rule reports: i32[], how many it removed."""

    pruned: jax.Array


def successive_halving(eta: float = 2.0, *, min_agents: int = 1, by: By = "value") -> Rule:
    """Keeps the best 1 / eta of the living, rounded up.

    Args:
      eta: in (1, inf).
      min_agents: how many are left alone.
      by: whether agents are ranked by their present values or by the best each has had.

    Raises:
      ValueError: an argument is out of its range.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> bowl = lambda x: jnp.sum(x**2)
      >>> box = jnp.ones(2)
      >>> result = jd.minimize(jd.Problem(bowl, -box, box), optax.sgd(0.1), num_agents=8,
      ...     steps=40, rung=10, rule=jd.pruning.successive_halving(), key=jax.random.key(0))
      >>> result.history.survivors.tolist()
      [4, 2, 1, 1]
    """
    eta = validation.number_between("eta", eta, 1.0, np.inf)
    validation.integer_in("min_agents", min_agents, 1)
    score = _score(by)

    def keep(population: Population, _: None) -> tuple[jax.Array, None]:
        living = jnp.sum(population.alive).astype(jnp.float32)
        kept = jnp.maximum(jnp.ceil(living / jnp.float32(eta)), min_agents).astype(jnp.int32)
        return ranks(score(population)) < kept, None

    return _rule(lambda _: None, keep)


def gap_to_best(tolerance: float = 1.0) -> Rule:
    """Removes an agent whose value is above the best by more than `tolerance` of the first spread.

    The spread is the distance from the best to the median at the first rung, so that the rule
    does not depend on the units of the loss. If most of the agents share the best value it is
    that to the median of the others; if all do, nobody goes and the next rung is the first. The
    best is always kept.

    Args:
      tolerance: in (0, inf).

    Raises:
      ValueError: it is out of its range.
    """
    tolerance = validation.number_between("tolerance", tolerance, 0.0, np.inf)

    def init(population: Population) -> jax.Array:
        return jnp.full((), jnp.nan, population.values.dtype)

    def keep(population: Population, spread: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = population.scores
        best = jnp.min(scores)
        median = lambda of: jnp.nanmedian(jnp.where(of, scores, jnp.nan))
        finite = jnp.isfinite(scores)
        now = median(finite) - best
        now = jnp.where(now > 0, now, median(finite & (scores > best)) - best)
        spread = jnp.where(jnp.isnan(spread), now, spread)
        # A comparison with NaN, of a spread not yet known, is False.
        return ~(scores > best + tolerance * spread), spread

    return _rule(init, keep)


def stalled(patience: int = 3, *, horizon: float = 30.0) -> Rule:
    """Removes an agent that would need more than `horizon` rungs to catch up with the best.

    Its speed is its mean progress per rung over the last `patience` rungs; what it has to make
    up is its distance to the best value now. The best is always kept.

    Args:
      patience: rungs over which progress is measured, at least 1.
      horizon: rungs, in (0, inf).

    Raises:
      ValueError: an argument is out of its range.
    """
    validation.integer_in("patience", patience, 1)
    horizon = validation.number_between("horizon", horizon, 0.0, np.inf)

    def init(population: Population) -> jax.Array:
        """Values of the last rungs, f[patience, agents], the oldest first."""
        return jnp.full((patience, *population.values.shape), jnp.nan, population.values.dtype)

    def keep(population: Population, earlier: jax.Array) -> tuple[jax.Array, jax.Array]:
        scores = population.scores
        earlier = jnp.where(population.evaluated, earlier, jnp.nan)
        speed = (earlier[0] - scores) / patience
        # A comparison with NaN, of an agent not yet seen for long enough, is False.
        slow = scores - jnp.min(scores) > horizon * jnp.maximum(speed, 0.0)
        slow &= ~jnp.isnan(earlier[0])
        seen = jnp.where(population.evaluated, scores, jnp.nan)
        return ~slow, jnp.concatenate([earlier[1:], seen[None]])

    return _rule(init, keep)


class _Curves(NamedTuple):
    """Each f[agents], but the rungs so far; an agent's curve starts where it was last placed."""

    rung: jax.Array
    count: jax.Array
    mean_x: jax.Array  # of x = log(rung)
    var_x: jax.Array  # sum of squares about the mean
    mean_y: jax.Array  # of the values
    var_y: jax.Array
    cov: jax.Array


def predicted_to_lose(total_rungs: int, *, burn_in: int = 3, deviations: float = 2.0) -> Rule:
    """Removes an agent whose loss curve, drawn out to the last rung, misses the best value now.

    The curve is a straight line in the logarithm of the rung, by least squares over all rungs so
    far; it is drawn out to `total_rungs` and lowered by `deviations` of its own standard
    deviations of prediction. A curve that falls faster in the end than a line in log time is
    underestimated by that: the deviations are the margin. The best is always kept.

    Args:
      total_rungs: how many there will be.
      burn_in: rungs before the first removal, at least 3: a line takes two.
      deviations: at least 0.

    Raises:
      ValueError: an argument is out of its range.
    """
    validation.integer_in("burn_in", burn_in, 3)
    validation.integer_in("total_rungs", total_rungs, burn_in)
    deviations = validation.number_in("deviations", deviations, 0.0, np.inf)

    def init(population: Population) -> _Curves:
        zeros = jnp.zeros_like(precise(population.values))
        zero = jnp.zeros((), zeros.dtype)
        return _Curves(zero, *(zeros,) * 6)

    def keep(population: Population, old: _Curves) -> tuple[jax.Array, _Curves]:
        rung, n = old.rung + 1, old.count + 1
        x, y = jnp.log(rung), precise(population.values)
        dx, dy = x - old.mean_x, y - old.mean_y
        new = _Curves(  # Welford's update, of the covariance too
            rung=rung,
            count=n,
            mean_x=old.mean_x + dx / n,
            var_x=old.var_x + dx * dx * (n - 1) / n,
            mean_y=old.mean_y + dy / n,
            var_y=old.var_y + dy * dy * (n - 1) / n,
            cov=old.cov + dx * dy * (n - 1) / n,
        )
        slope = new.cov / jnp.maximum(new.var_x, 1e-12)
        ahead = jnp.maximum(jnp.log(jnp.asarray(total_rungs, y.dtype)), x) - new.mean_x
        residual = jnp.maximum(new.var_y - slope * new.cov, 0.0) / jnp.maximum(n - 2, 1.0)
        spread = jnp.sqrt(residual * (1 + 1 / n + ahead**2 / jnp.maximum(new.var_x, 1e-12)))
        hoped = new.mean_y + slope * ahead - deviations * spread
        scores = population.scores
        best = jnp.min(scores)
        # A comparison with NaN, of a curve whose squares are too large a number, is False.
        kept = (n < burn_in) | ~(hoped > best) | (scores == best)
        started = jax.tree.map(lambda curve: jnp.where(population.evaluated, curve, 0), new)
        return kept, started._replace(rung=rung)

    return _rule(init, keep)


UNKNOWN = 0.5
"""The correlation that `adaptive` assumes while none has been measured."""


class _Ranked(NamedTuple):
    """Scores at two rungs, the second at least twice as many steps from the start as the first."""

    age: jax.Array  # i32[], of the agents at the second
    earlier: jax.Array  # f[agents], NaN while there is none
    later: jax.Array


def adaptive(risk: float = 0.1, *, max_eta: float = 4.0, by: By = "value") -> Rule:
    """Keeps as few as hold the eventual winner with probability 1 - `risk`: our default.

    Ranks now are compared with those at half the age or before, as normal scores (the ranks'
    quantiles of a Gaussian). Their correlation r says what a rank was worth when the agents were
    half as old, and is taken for what a rank is worth now until they are twice as old; at first,
    when there is nothing to compare, r = 0.5. If ranks then follow a Gaussian copula with that
    correlation, the agent that will have the least value of N is, with probability 1 - risk, among
    the share

        Phi(r m + sqrt(1 - r^2) Phi^-1(1 - risk)),    m = Phi^-1(0.625 / (N + 0.25))

    of the best now. Where ranks still churn nearly all are kept, where they hold all but a few
    go; at most 1 - 1 / max_eta of the living go at a rung. The run may be longer than twice the
    age, and the risk is that of a rung: the rule looks again at the next. THEORY.md beside this
    file derives it, and has functions on which the winner is dropped more often than the copula
    says.

    Args:
      risk: in (0, 0.5).
      max_eta: in (1, inf].
      by: whether agents are ranked by their present values or by the best each has had.

    Raises:
      ValueError: an argument is out of its range.
    """
    risk = validation.number_between("risk", risk, 0.0, 0.5)
    max_eta = float(validation.positive_number("max_eta", max_eta, infinite=True))
    if max_eta <= 1:
        raise ValueError(f"max_eta must be in (1, inf], got {max_eta}")
    score = _score(by)

    def init(population: Population) -> _Ranked:
        none = jnp.full_like(population.values, jnp.nan)
        return _Ranked(jnp.zeros((), population.age.dtype), none, none)

    def keep(population: Population, old: _Ranked) -> tuple[jax.Array, _Ranked]:
        scores = score(population)
        living = jnp.sum(jnp.isfinite(scores))
        age = jnp.max(jnp.where(population.alive, population.age, 0))
        doubled = age >= 2 * old.age
        earlier = jnp.where(doubled, old.later, old.earlier)
        r = jnp.where(jnp.all(jnp.isnan(earlier)), UNKNOWN, rank_correlation(earlier, scores))
        share = winners.share_to_keep(r, living, risk)
        kept = jnp.ceil(living.astype(share.dtype) * jnp.maximum(share, 1 / max_eta))
        later = jnp.where(doubled, scores, old.later)
        of_its_own = lambda x: jnp.where(
            population.evaluated, x, jnp.nan
        )  # not of whom it replaced
        age = jnp.where(doubled, age, old.age)
        new = _Ranked(age=age, earlier=of_its_own(earlier), later=of_its_own(later))
        return ranks(scores) < kept.astype(jnp.int32), new

    return _rule(init, keep)


def _score(by: By) -> Callable[[Population], jax.Array]:
    if not isinstance(by, str) or by not in ("value", "best"):
        raise ValueError(f"by must be 'value' or 'best', got {by!r}")
    return lambda population: population.scores if by == "value" else population.best_scores


def no_pruning() -> Rule:
    """Keeps every agent whose value is finite: plain multistart."""
    return _rule(lambda _: None, lambda population, _: (population.alive, None))


def until(target: float) -> Rule:
    """Removes everyone once anyone has had a value of at most `target`: nothing is computed then.

    Chain it with the rule that prunes; the best point is in the result.

    Args:
      target: finite.

    Raises:
      ValueError: it is not.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> box = jnp.ones(2)
      >>> bowl = jd.Problem(lambda x: jnp.sum(x**2), -box, box)
      >>> result = jd.minimize(bowl, optax.sgd(0.1), num_agents=8, steps=1_000, rung=10,
      ...     rule=jd.pruning.until(1e-6), key=jax.random.key(0))
      >>> bool(result.value <= 1e-6), result.gradients < 8 * 100
      (True, True)
    """
    target = validation.number_between("target", target, -np.inf, np.inf)

    def keep(population: Population, _: None) -> tuple[jax.Array, None]:
        reached = jnp.any(jnp.isfinite(population.best_values) & (population.best_values <= target))
        return population.alive & ~reached, None

    return _rule(lambda _: None, keep)


def _rule(init: Any, keep: Any) -> Rule:
    """A rule from `keep`: (population, state) to (bool[agents], state)."""

    def update(_key: jax.Array, population: Population, _problem: Any, state: Any) -> Any:
        kept, state = keep(population, state)
        kept |= ~population.evaluated
        alive = population.alive & kept
        pruned = jnp.sum(population.alive & ~kept, dtype=jnp.int32)
        return population._replace(alive=alive), state, Pruned(pruned)

    return Rule(lambda _key, population, _problem: init(population), update)
