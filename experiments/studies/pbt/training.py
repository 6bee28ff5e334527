"""Population-based training, random search and self-tuning from the same starts."""

from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxdescent as jd
from experiments.studies.pbt import task
from experiments.studies.pbt.settings import BATCH_SIZE, RULE, SPACES, Size

METHODS = {
    "pbt": "population-based training",
    "random_search": "random search",
    "self_tuning": "jd.self_tuning, one network",
}


class Trained(NamedTuple):
    """The network that a method selects by validation loss.

    Attributes:
      validation, test: f64[], its mean cross entropies in nats.
      accuracy: f64[], its test accuracy in percent.
      gradients: i64[], gradients of a batch that the method computed.
      curve: f64[rungs], the best validation loss so far at the end of each rung.
      learning_rate, weight_decay: f64[rungs], what the network was trained with, up to the rung
        from which it is taken; NaN after it, and for self-tuning.
    """

    validation: np.ndarray
    test: np.ndarray
    accuracy: np.ndarray
    gradients: np.ndarray
    curve: np.ndarray
    learning_rate: np.ndarray
    weight_decay: np.ndarray


class Comparison(NamedTuple):
    """The methods on one seed, with the same starts, hyperparameters and batches."""

    pbt: Trained
    random_search: Trained
    self_tuning: Trained


def compare(data: task.Parts, size: Size, seed: int) -> Comparison:
    """Trains with each method."""
    key = jax.random.key(seed)
    starts = jax.vmap(task.init)(jax.random.split(jax.random.fold_in(key, 0), size.agents))
    drawn = jd.evolution.sample_hyperparams(jax.random.fold_in(key, 1), SPACES, size.agents)

    def fit(optimizer: Any, starts: Any, rule: jd.Rule, drawn: Any = None) -> jd.PopulationResult:
        return jd.fit(
            task.loss,
            optimizer,
            data.train,
            validation_data=data.validation,
            init_params=starts,
            hyperparams=drawn,
            rule=rule,
            steps=size.steps,
            steps_per_rung=size.steps_per_rung,
            batch_size=BATCH_SIZE,
            key=key,
        )

    no_pruning = jd.pruning.no_pruning()
    population = fit(optax.adamw, starts, RULE, drawn)
    search = fit(optax.adamw, starts, no_pruning, drawn)
    one = fit(jd.self_tuning(optax.adamw), jax.tree.map(lambda x: x[:1], starts), no_pruning)
    opt_state, last = jax.tree.map(
        lambda x: x[0], (one.population.opt_state, one.population.params)
    )
    schedule = jd.evolution.hyperparameter_schedule(population).hyperparams
    rungs = int(np.argmax(np.asarray(search.history.best_value) == np.asarray(search.value))) + 1
    chosen = {name: np.repeat(x[search.id], rungs) for name, x in drawn.items()}
    return Comparison(
        _trained(data, population, population.params, schedule),
        _trained(data, search, search.params, chosen),
        _trained(data, one, jd.averaged_params(opt_state, last), {}),
    )


def _trained(
    data: task.Parts, result: jd.PopulationResult, params: Any, hyperparams: dict[str, np.ndarray]
) -> Trained:
    curve = np.asarray(result.history.best_value, float)
    evaluate = jax.jit(lambda params, part: (task.loss(params, part), task.accuracy(params, part)))
    validation, _ = evaluate(params, data.validation)
    test, accuracy = evaluate(params, data.test)
    used = {name: np.full(len(curve), np.nan) for name in SPACES}
    for name, values in hyperparams.items():
        used[name][: len(values)] = values
    return Trained(
        validation=np.asarray(float(validation)),
        test=np.asarray(float(test)),
        accuracy=np.asarray(float(accuracy)),
        gradients=np.asarray(result.gradients),
        curve=curve,
        **used,
    )
