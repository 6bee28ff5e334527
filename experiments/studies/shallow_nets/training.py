"""Training from many starts, with and without pruning, and the regret of pruning."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxdescent as jd
from experiments.studies.shallow_nets.networks import (
    Averaged,
    adam,
    averaged_loss,
    init_networks,
    loss_of,
)
from experiments.studies.shallow_nets.settings import (
    AGENTS,
    AVERAGE_DECAY,
    BATCH_SIZE,
    LOG10_RATES,
    REGIMES,
    RULE,
    STEPS_PER_RUNG,
    num_steps,
)
from experiments.studies.shallow_nets.tasks import TabularTask


class PruningComparison(NamedTuple):
    """A pruned training run beside the full training of the same agents.

    Each agent's losses are taken at the rung with its lowest validation loss.

    Attributes:
      validation, test: f64[agents], losses of the full training.
      pruned_validation, pruned_test: f64[], losses of the pruned run's best agent.
      compute: f64[], gradients of the pruned run relative to the full training.
      curves: f64[rungs, agents], validation losses of the full training.
      alive: bool[rungs, agents], True while the pruned run keeps the agent.
      bitwise_equal: bool[], True if agents have the same losses in both until they are pruned.
    """

    validation: np.ndarray
    test: np.ndarray
    pruned_validation: np.ndarray
    pruned_test: np.ndarray
    compute: np.ndarray
    curves: np.ndarray
    alive: np.ndarray
    bitwise_equal: np.ndarray

    @property
    def validation_regret(self) -> float:
        """Regret of the pruned run's best agent on validation examples."""
        return regret(self.pruned_validation, self.validation)

    @property
    def test_regret(self) -> float:
        """Regret of the pruned run's best agent on test examples."""
        return regret(self.pruned_test, self.test)

    @property
    def unpruned_test_regret(self) -> float:
        """Test regret of the agent with the lowest validation loss of the full training."""
        return regret(self.test[np.argmin(self.validation)], self.test)

    @property
    def decided_early(self) -> bool:
        """True if the best validation loss of the full training precedes the first pruning."""
        unpruned = np.all(self.alive, axis=1).sum() + 1  # all agents reach the first pruned rung
        return bool(np.min(self.curves[:unpruned]) == np.min(self.curves))


def regret(loss: np.ndarray, losses: np.ndarray) -> float:
    """Returns the excess over the best loss, relative to the range of the finite losses."""
    best, worst = np.min(losses), np.max(losses[np.isfinite(losses)])
    return float((loss - best) / (worst - best))


def compare(task: TabularTask, scale: str, regime: str, seed: int) -> PruningComparison:
    """Trains the agents of a task with and without pruning."""
    fit = partial(fit_agents, task, scale, regime, seed, rule=RULE)
    full, pruned = fit(prune=False), fit()
    curves, pruned_curves = np.asarray(full.history.values), np.asarray(pruned.history.values)
    is_trained = ~np.isnan(pruned_curves)
    loss = loss_of(task)
    test = _losses(loss, full.population.best_model_state.mean, task.test)
    return PruningComparison(
        validation=np.asarray(full.population.best_values, float),
        test=np.where(np.isfinite(test), test, np.inf),
        pruned_validation=np.asarray(float(pruned.value)),
        pruned_test=np.asarray(float(loss(pruned.model_state.mean, task.test))),
        compute=np.asarray(pruned.gradients / full.gradients),
        curves=curves,
        alive=np.asarray(pruned.history.alive),
        bitwise_equal=np.asarray(np.array_equal(curves[is_trained], pruned_curves[is_trained])),
    )


def fit_agents(
    task: TabularTask, scale: str, regime: str, seed: int, **options: Any
) -> jd.PopulationResult:
    """Trains the agents of a task; `options` are further arguments of `jd.fit`."""
    key, setting, steps = jax.random.key(seed), REGIMES[regime], num_steps(scale)
    params, rates = init_agents(key, task.train["x"].shape[1], task.outputs)
    if setting.learning_rate is not None:
        rates = _for_each_agent(setting.learning_rate)
    objective = averaged_loss(loss_of(task))
    return jd.fit(
        objective.train,
        adam,
        task.train,
        init_params=params,
        model_state=Averaged.init(params, AVERAGE_DECAY if setting.decays else 0.0),
        hyperparams={
            "learning_rate": rates,
            "steps": _for_each_agent(steps),
            "decays": _for_each_agent(setting.decays),
        },
        key=key,
        steps=steps,
        steps_per_rung=STEPS_PER_RUNG[scale],
        batch_size=min(BATCH_SIZE, len(task.train["y"])),
        validation_data=task.validation,
        value_fn=objective.evaluate,
        **options,
    )


def _for_each_agent(x: float) -> jax.Array:
    return jnp.full(AGENTS, x, jnp.float32)


@partial(jax.jit, static_argnums=(1, 2))
def init_agents(key: jax.Array, inputs: int, outputs: int) -> tuple[Any, jax.Array]:
    """Draws the agents' initial parameters and log-uniform learning rates."""
    params = init_networks(jax.random.fold_in(key, 0), inputs, outputs, AGENTS)
    low, high = LOG10_RATES
    exponents = jax.random.uniform(jax.random.fold_in(key, 1), (AGENTS,), minval=low, maxval=high)
    return params, 10.0**exponents


@partial(jax.jit, static_argnums=0)
def _losses(loss: Callable[..., jax.Array], params: Any, examples: Any) -> jax.Array:
    return jax.vmap(loss, (0, None))(params, examples)
