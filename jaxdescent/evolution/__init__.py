"""Rules that copy, perturb and recombine the agents of a population between rungs.

    rule = jd.evolution.population_based_training({"learning_rate": jd.positive((1e-4, 1e-1))})
    result = jd.fit(loss, optax.adam, data, rule=rule, ...)

    population_based_training
                           copies good agents over bad ones, and changes their hyperparameters
    sample_hyperparams     draws the hyperparameters that agents start with
    hyperparameter_schedule
                           the hyperparameters along the lineage of the best agent
    evolutionary_sgd       undoes rungs that made an agent worse; offspring of good agents
    Lineage, Generation    the infos that these rules report
    HyperparameterSchedule the result of `hyperparameter_schedule`

Agents are compared by their values at the end of a rung.
"""

from jaxdescent.evolution.evolutionary_sgd import Generation, evolutionary_sgd
from jaxdescent.evolution.lineage import (
    HyperparameterSchedule,
    Lineage,
    hyperparameter_schedule,
)
from jaxdescent.evolution.population_based_training import population_based_training
from jaxdescent.evolution.search_spaces import sample_hyperparams

__all__ = [
    "Generation",
    "HyperparameterSchedule",
    "Lineage",
    "evolutionary_sgd",
    "hyperparameter_schedule",
    "population_based_training",
    "sample_hyperparams",
]


def __dir__() -> list[str]:
    return __all__
