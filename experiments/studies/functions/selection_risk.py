"""Risk that pruning removes the agent that would have ended best.

All agents run to the end. At each of three rungs a cut keeps the agents with the lowest values
then; the best agent is the one with the lowest value at the end. The predicted risk is
`jd.pruning.prob_best_pruned` of the rank correlation between the two.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxdescent as jd
from experiments.instances import Instances
from experiments.studies.functions.settings import SOLVED

NUM_AGENTS, STEPS_PER_RUNG, NUM_RUNGS = 256, 4, 128
CUTS = {0: 64, 3: 16, 15: 4}  # from the rung to the number of agents that are kept
RULE = jd.pruning.successive_halving()


class SelectionRisk(NamedTuple):
    """Risks of pruning the best agent; arrays are [runs, cuts].

    Attributes:
      correlation: f64, the rank correlation between the values at the cut and at the end.
      predicted: f64, the predicted probability that the best agent is pruned.
      pruned: bool, True where the best agent was pruned.
      harmful: bool, True where also the best kept agent ended more than `SOLVED` above it.
    """

    correlation: np.ndarray
    predicted: np.ndarray
    pruned: np.ndarray
    harmful: np.ndarray


def measure_risk(instances: Instances, runs: int) -> SelectionRisk:
    """Measures the risk of each cut in the first runs of a function."""
    risks = [risk_of_cuts(np.asarray(record_values(*instances[run]))) for run in range(runs)]
    return stack(risks)


def stack(risks: Sequence[SelectionRisk]) -> SelectionRisk:
    """Stacks the risks of runs along a leading axis."""
    return SelectionRisk(*(np.array(x) for x in zip(*risks, strict=True)))


@jax.jit
def record_values(problem: jd.Problem, key: jax.Array) -> jax.Array:
    """Returns all agents' values after each rung, f32[rungs, agents], without pruning."""
    result = jd.minimize(
        problem,
        _decaying_adam,
        key=key,
        num_agents=NUM_AGENTS,
        steps=STEPS_PER_RUNG * NUM_RUNGS,
        steps_per_rung=STEPS_PER_RUNG,
        rule=RULE,
        prune=False,
    )
    return result.history.values


def _decaying_adam() -> optax.GradientTransformation:
    return optax.adam(optax.exponential_decay(0.01, STEPS_PER_RUNG * NUM_RUNGS, 1e-4))


def risk_of_cuts(values: np.ndarray) -> SelectionRisk:
    """Returns the risk of each cut in one run, given all agents' values f[rungs, agents]."""
    values = np.where(np.isfinite(values), values, np.inf)
    final = values[-1]
    best = int(final.argmin())
    cuts = []
    for rung, count in CUTS.items():
        kept = np.argsort(values[rung], kind="stable")[:count]
        correlation = float(jd.pruning.rank_correlation(*map(jnp.asarray, (values[rung], final))))
        predicted = jd.pruning.prob_best_pruned(correlation, len(final), count)
        pruned = best not in kept
        harmful = pruned and final[kept].min() > final[best] + SOLVED
        cuts.append((correlation, predicted, pruned, harmful))
    return SelectionRisk(*map(np.array, zip(*cuts, strict=True)))
