"""The lineage of agents that copy each other, and the hyperparameters along it.

    agent of rung r = source of rung r at the agent of rung r + 1

Followed back from the best agent, its hyperparameters are a schedule for training one agent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdescent import validation
from jaxdescent.agents import PopulationResult


class Lineage(NamedTuple):
    """Info that population-based training reports.

    Attributes:
      source: i32[agents], index of the agent of which each agent became a copy at the end of the
        rung; its own index if it was not replaced.
      hyperparams: mapping from keywords to f[agents, ...], the hyperparameters that were in use in
        the rung. The next info has the hyperparameters of the next rung.
    """

    source: jax.Array
    hyperparams: Any


class HyperparameterSchedule(NamedTuple):
    """Hyperparameters of a lineage, a number for each rung.

    Attributes:
      steps: i32[rungs], number of steps since the start at the end of each rung.
      hyperparams: mapping from keywords to f[rungs, ...], the values in use in each rung.
      agents: i32[rungs], index of the agent that was in the lineage in each rung. The first is the
        index of the initial parameters from which it descends.
    """

    steps: np.ndarray
    hyperparams: dict[str, np.ndarray]
    agents: np.ndarray

    def function_of_step(self, name: str) -> Callable[[Any], jax.Array]:
        """Returns the schedule of a hyperparameter as a function of the step, as optax takes it.

        After the last rung it keeps the last value.

        Raises:
          ValueError: `name` is not a hyperparameter of the schedule.
        """
        if name not in self.hyperparams:
            raise ValueError(
                f"name must be one of {', '.join(self.hyperparams)}, got {validation.shown(name)}"
            )
        ends, values = jnp.asarray(self.steps[:-1]), jnp.asarray(self.hyperparams[name])

        def schedule(step: Any) -> jax.Array:
            return values[jnp.searchsorted(ends, step, side="right")]

        return schedule


def hyperparameter_schedule(result: PopulationResult) -> HyperparameterSchedule:
    """Returns the hyperparameters along the lineage of the best agent, from its start.

    Training one agent with it replays the best agent, if it sees the same batches. The schedule
    ends with the rung in which the best value was found.

    Args:
      result: the result of `jd.minimize` or `jd.fit` with `population_based_training` as rule, or
        as one of the rules of `jd.pruning.chain`.

    Raises:
      ValueError: the run had another rule, or no agent had a finite value.

    Example:
      >>> import jax, jax.numpy as jnp, optax, jaxdescent as jd
      >>> def loss(x):
      ...     return jnp.sum((x - 1) ** 2)
      >>> spaces = {"learning_rate": jd.positive((1e-3, 1e-1))}
      >>> result = jd.minimize(
      ...     loss, optax.adam, init_params=jnp.zeros((8, 3)), steps=60, num_rungs=6,
      ...     hyperparams=jd.evolution.sample_hyperparams(jax.random.key(0), spaces, 8),
      ...     rule=jd.evolution.population_based_training(spaces))
      >>> learned = jd.evolution.hyperparameter_schedule(result)
      >>> tx = optax.adam(learned.function_of_step("learning_rate"))
      >>> one = jd.minimize(loss, tx, init_params=jnp.zeros((1, 3)), steps=60)
      >>> bool(jnp.allclose(one.params, result.params, atol=1e-5))
      True
    """
    leaves = jax.tree.leaves(result.history.rule_info, is_leaf=_is_lineage)
    lineages = [leaf for leaf in leaves if _is_lineage(leaf)]
    if len(lineages) != 1:
        raise ValueError(
            "result must be of a run with the rule population_based_training, got "
            f"{len(lineages)} lineages in history.rule_info"
        )
    if result.id < 0:
        raise ValueError("result must have a finite value, got none in the whole run")
    sources = np.asarray(lineages[0].source)
    steps = np.asarray(result.history.steps)
    # A rung without steps changed nothing.
    acted = np.diff(steps, prepend=0) > 0
    sources = np.where(acted[:, None], sources, np.arange(sources.shape[1]))
    found = np.flatnonzero(np.asarray(result.history.best_value) == np.asarray(result.value))[0]
    agents = np.full(found + 1, int(result.id), np.int32)
    for rung in range(found - 1, -1, -1):
        agents[rung] = sources[rung, agents[rung + 1]]
    rungs = np.flatnonzero(acted[: found + 1])
    hyperparams = {
        name: np.asarray(x)[rungs, agents[rungs]] for name, x in lineages[0].hyperparams.items()
    }
    return HyperparameterSchedule(steps[rungs], hyperparams, agents[rungs])


def _is_lineage(node: Any) -> bool:
    return isinstance(node, Lineage)
