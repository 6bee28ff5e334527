"""A population with random learning rates: pruned, and trained to the end."""

from typing import NamedTuple

import jax
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.quickstart import network
from experiments.studies.quickstart.settings import BATCH_SIZE, EPOCHS, Settings

AGENTS, NUM_RUNGS = 16, 10
FEW = 4  # agents of a random search with a quarter of the compute
LOG10_RATES = (-6.0, 1.0)  # the range of learning rates, log-uniform


class PruningComparison(NamedTuple):
    """A pruned population beside the full training of the same agents.

    Accuracies are on the test images, in percent, of the agent with the least validation loss. An
    agent's parameters are taken from the rung with its least validation loss.

    Attributes:
      pruned: f64[], of the pruned population.
      full: f64[], of the full training of all agents.
      few: f64[AGENTS / FEW], of the full training of `FEW` agents; each agent is in one group.
      compute: f64[], gradients of the pruned population relative to the full training of one agent.
    """

    pruned: np.ndarray
    full: np.ndarray
    few: np.ndarray
    compute: np.ndarray


def compare(settings: Settings, data: network.Parts, number: int) -> PruningComparison:
    """Trains a population with and without pruning.

    Args:
      settings: of the study.
      data: the images.
      number: of the population, which determines its random key.
    """
    key = jax.random.fold_in(jax.random.key(settings.seed), number)
    rates = _draw_rates(jax.random.fold_in(key, 1))
    full, pruned = (_fit(settings, data, key, rates, prune=prune) for prune in (False, True))
    losses = np.nan_to_num(np.asarray(full.population.best_values, float), nan=np.inf)
    test = jax.jit(network.accuracy)
    accuracies = np.asarray(jax.vmap(test, (0, None))(full.population.best_params, data.test))
    groups = np.arange(AGENTS).reshape(-1, FEW)
    return PruningComparison(
        pruned=np.asarray(test(pruned.params, data.test), float),
        full=np.asarray(accuracies[losses.argmin()], float),
        few=np.array([accuracies[group[losses[group].argmin()]] for group in groups], float),
        compute=np.asarray(AGENTS * pruned.gradients / full.gradients, float),
    )


def _draw_rates(key: jax.Array) -> jax.Array:
    """Returns log-uniform learning rates, f32[AGENTS]."""
    low, high = LOG10_RATES
    return 10.0 ** jax.random.uniform(key, (AGENTS,), minval=low, maxval=high)


def _fit(
    settings: Settings, data: network.Parts, key: jax.Array, rates: jax.Array, *, prune: bool
) -> jd.PopulationResult:
    return jd.fit(
        network.loss,
        optax.adam,
        data.train,
        init_params=jax.vmap(network.init)(jax.random.split(key, AGENTS)),
        hyperparams={"learning_rate": rates},
        validation_data=data.validation,
        steps=EPOCHS[settings.scale] * (len(data.train.targets) // BATCH_SIZE),
        num_rungs=NUM_RUNGS,
        batch_size=BATCH_SIZE,
        rule=jd.pruning.successive_halving(),
        prune=prune,
        key=key,
    )
