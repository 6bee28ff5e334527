"""How often pruning drops the agent that would have won, on runs in which all go on.

Each cut keeps so many agents of the best at a rung; the winner is the best at the end. The
prediction is that of `jd.pruning.prob_best_pruned`, of the ranks' correlation.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.functions import methods as contests


class Dropped(NamedTuple):
    """What pruning at one of the shown rungs would have lost; arrays are [runs, rungs].

    Attributes:
      correlation: of the ranks then and at the end.
      predicted: chance to drop the winner.
      dropped: whether it was.
      harmed: whether also the best that was kept ended above the winner by `contests.SOLVED`.
    """

    correlation: np.ndarray
    predicted: np.ndarray
    dropped: np.ndarray
    harmed: np.ndarray


TRACED_AGENTS, TRACED_RUNG, TRACED_RUNGS = 256, 4, 128
CUTS = {0: 64, 3: 16, 15: 4}  # from rung to how many are kept
CUT = jd.pruning.successive_halving()


@jax.jit
def traced(problem: jd.Problem, key: jax.Array) -> jax.Array:
    """f32[rungs, agents], the values of all: those that the rule removes go on."""
    result = jd.minimize(
        problem,
        _settling,
        key=key,
        num_agents=TRACED_AGENTS,
        steps=TRACED_RUNG * TRACED_RUNGS,
        rung=TRACED_RUNG,
        rule=CUT,
        prune=False,
    )
    return result.history.values


def _settling() -> optax.GradientTransformation:
    return optax.adam(optax.exponential_decay(0.01, TRACED_RUNG * TRACED_RUNGS, 1e-4))


def losses(values: np.ndarray) -> Dropped:
    """What each cut would have lost, of f[rungs, agents]; arrays are [cuts]."""
    values = np.where(np.isfinite(values), values, np.inf)
    end = values[-1]
    winner = int(end.argmin())
    rows = []
    for rung, count in CUTS.items():
        kept = np.argsort(values[rung], kind="stable")[:count]
        correlation = float(jd.pruning.rank_correlation(*map(jnp.asarray, (values[rung], end))))
        predicted = jd.pruning.prob_best_pruned(correlation, len(end), count)
        dropped = winner not in kept
        harmed = dropped and end[kept].min() > end[winner] + contests.SOLVED
        rows.append((correlation, predicted, dropped, harmed))
    return Dropped(*map(np.array, zip(*rows, strict=True)))
